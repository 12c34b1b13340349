#ifndef KOINON_KERNELS_ONEDNN_NORM_KERNEL_H_
#define KOINON_KERNELS_ONEDNN_NORM_KERNEL_H_

#include <cstddef>

namespace koinon::kernels::onednn {

// Group norm and layer norm in one kernel, our own: oneDNN 2.6 has no group
// norm, and its layer norm does not go over whole images.
//
// x, y: [B, G, M], each row of M values brought to mean 0 and variance 1. Value
// j of an example belongs to channel j / S, and each channel has its scale and
// shift. Layer norm: G = 1, S = 1. Group norm: S = height * width.
struct NormShape {
  size_t batch = 0;     // B
  size_t groups = 1;    // G
  size_t row = 0;       // M
  size_t spatial = 1;   // S
  size_t channels = 0;  // G * M / S
  double epsilon = 0;
};

// mean, inverse_deviation: [B, G], kept for the way back. Sums are in double,
// in an order that does not depend on `threads`.
void ForwardNorm(const NormShape& shape, int threads, const float* x,
                 const float* scale, const float* shift, float* y, float* mean,
                 float* inverse_deviation);

// scale_gradient, shift_gradient: [channels], overwritten. x_gradient:
// [B, G, M], or null where it is not wanted.
void BackwardNorm(const NormShape& shape, int threads, const float* x,
                  const float* scale, const float* mean,
                  const float* inverse_deviation, const float* y_gradient,
                  float* x_gradient, float* scale_gradient,
                  float* shift_gradient);

}  // namespace koinon::kernels::onednn

#endif  // KOINON_KERNELS_ONEDNN_NORM_KERNEL_H_
