#ifndef KOINON_KERNELS_ONEDNN_LAYER_NORM_KERNEL_H_
#define KOINON_KERNELS_ONEDNN_LAYER_NORM_KERNEL_H_

#include <cstddef>

namespace koinon::kernels::onednn {

// Layer norm over the features of each position (Ba et al. 2016).
// x, y: [N, C], N = batch * positions. scale, shift: [C].
struct LayerNormShape {
  size_t rows = 0;      // N
  size_t features = 0;  // C
  float epsilon = 0;
};

// The way back goes over so many runs of rows, each with sums of its own: the
// same number, and so the same order of sums, on any number of threads.
inline constexpr size_t kLayerNormRuns = 16;

// y = norm(x + other), where x + other goes to `sum`; `other` and `sum` null:
// y = norm(x). mean, inverse_deviation: [N], kept for the way back.
void ForwardLayerNorm(const LayerNormShape& shape, int threads, const float* x,
                      const float* other, float* sum, const float* scale,
                      const float* shift, float* y, float* mean,
                      float* inverse_deviation);

// scale_gradient, shift_gradient: [C], overwritten. x_gradient: [N, C], added
// to if `adds`, else overwritten; null: not wanted. scratch:
// [kLayerNormRuns, 2, C].
void BackwardLayerNorm(const LayerNormShape& shape, int threads, const float* x,
                       const float* scale, const float* mean,
                       const float* inverse_deviation, const float* y_gradient,
                       bool adds, float* x_gradient, float* scale_gradient,
                       float* shift_gradient, double* scratch);

}  // namespace koinon::kernels::onednn

#endif  // KOINON_KERNELS_ONEDNN_LAYER_NORM_KERNEL_H_
