#ifndef KOINON_KERNELS_WIDEST_VECTORS_H_
#define KOINON_KERNELS_WIDEST_VECTORS_H_

namespace koinon::kernels {

#if defined(__x86_64__)
namespace widest_vectors_internal {

// `flatten` compiles all that the body calls into these functions, for their
// instruction sets.
template <typename Body>
__attribute__((flatten, noinline,
               target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma"))) void
RunAvx512(const Body& body) {
  body();
}

template <typename Body>
__attribute__((flatten, noinline, target("avx2,fma"))) void RunAvx2(
    const Body& body) {
  body();
}

inline bool HasAvx512() {
  return __builtin_cpu_supports("avx512f") &&
         __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512dq");
}

inline bool HasAvx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

}  // namespace widest_vectors_internal
#endif

// Calls `body`, a function without arguments made of loops, compiled for the
// widest vectors of this processor: AVX-512, AVX2 with fused multiply-add, or
// what every processor of the kind has. What decides is looked up at each call,
// which costs a few nanoseconds: call it around loops, not inside them.
//
// Fused multiply-adds round once where two operations round twice: results may
// differ in the last bit between processors, never between calls.
template <typename Body>
void WithWidestVectors(const Body& body) {
#if defined(__x86_64__)
  if (widest_vectors_internal::HasAvx512()) {
    widest_vectors_internal::RunAvx512(body);
    return;
  }
  if (widest_vectors_internal::HasAvx2()) {
    widest_vectors_internal::RunAvx2(body);
    return;
  }
#endif
  body();
}

}  // namespace koinon::kernels

#endif  // KOINON_KERNELS_WIDEST_VECTORS_H_
