#include "kernels/onednn/rounding.h"

#include "kernels/onednn/openmp.h"
#include "kernels/widest_vectors.h"

namespace koinon::kernels::onednn {

void RoundToBfloat16(int threads, size_t count, const float* from, float* to) {
  ParallelFor(threads, count, [&](size_t begin, size_t end) {
    WithWidestVectors([&] {
      const float* __restrict x = from;
      float* __restrict y = to;
      for (size_t i = begin; i < end; ++i) y[i] = NextBfloat16(x[i]);
    });
  });
}

}  // namespace koinon::kernels::onednn
