// What ThreadSanitizer must know when Debian's gRPC is linked in: the library
// is not instrumented, so what it orders by its own locks and atomics looks
// like races, in it and in what passes through it. Our own code stays checked:
// its locks are pthread mutexes (base/mutex.h), which the sanitizer sees. Empty
// in other builds.

#if defined(__SANITIZE_THREAD__)
#define KOINON_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define KOINON_TSAN 1
#endif
#endif

#ifdef KOINON_TSAN
extern "C" const char* __tsan_default_options();
extern "C" const char* __tsan_default_options() {
  return "ignore_noninstrumented_modules=1:second_deadlock_stack=1";
}

extern "C" const char* __tsan_default_suppressions();
extern "C" const char* __tsan_default_suppressions() {
  return "called_from_lib:libgrpc.so\n"
         "called_from_lib:libgrpc++.so\n"
         "called_from_lib:libgpr.so\n"
         "race:libgrpc.so\n"
         "race:libgrpc++.so\n"
         "race:libgpr.so\n"
         "race:libabsl_\n"
         "race:grpc::\n"
         "race:grpc_core::\n";
}
#endif
