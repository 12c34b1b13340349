#ifndef KOINON_BASE_ABSL_MUTEXES_H_
#define KOINON_BASE_ABSL_MUTEXES_H_

namespace koinon {

// Debian's Abseil is built with its search for deadlocks on: every lock of
// gRPC's is looked up in one graph of all that are, which costs the more the
// more connections there are (with a few thousand, most of the processor). This
// turns it off, for the whole process; for main and benchmarks.
void StopSearchForDeadlocks();

}  // namespace koinon

#endif  // KOINON_BASE_ABSL_MUTEXES_H_
