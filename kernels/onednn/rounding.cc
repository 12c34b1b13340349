#include "kernels/onednn/rounding.h"

#include <cstdint>

#include "absl/base/casts.h"
#include "kernels/onednn/openmp.h"
#include "kernels/widest_vectors.h"

namespace koinon::kernels::onednn {

void RoundToBfloat16(int threads, size_t count, const float* from, float* to) {
  ParallelFor(threads, count, [&](size_t begin, size_t end) {
    WithWidestVectors([&] {
      const float* __restrict x = from;
      float* __restrict y = to;
      for (size_t i = begin; i < end; ++i) {
        const uint32_t bits = absl::bit_cast<uint32_t>(x[i]);
        const uint32_t rounded = bits + 0x7fff + ((bits >> 16) & 1);
        // Rounding would carry some of what is no number into the exponent.
        const uint32_t kept = x[i] == x[i] ? rounded : bits | 0x400000;
        y[i] = absl::bit_cast<float>(kept & 0xffff0000);
      }
    });
  });
}

}  // namespace koinon::kernels::onednn
