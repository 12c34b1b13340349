#include "kernels/bfloat16.h"

namespace koinon::kernels {

bool HasBfloat16() {
#if defined(__x86_64__)
  // The compiler's query includes whether the operating system keeps the
  // registers. Every processor with AMX_BF16 has AVX512_BF16 too.
  return __builtin_cpu_supports("avx512f") &&
         __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

absl::Status CheckBfloat16() {
  if (HasBfloat16()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      "bfloat16: expected a processor with avx512_bf16 or amx_bf16, found "
      "neither here");
}

}  // namespace koinon::kernels
