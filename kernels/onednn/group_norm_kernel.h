#ifndef KOINON_KERNELS_ONEDNN_GROUP_NORM_KERNEL_H_
#define KOINON_KERNELS_ONEDNN_GROUP_NORM_KERNEL_H_

#include <cstddef>
#include <cstdint>

namespace koinon::kernels::onednn {

// Group norm on images whose channels lie side by side in sixteens, with the
// ReLU behind it; one example at a time, which the cache holds between the two
// passes that each direction takes. norm_kernel.h has every other case.
//
// x, y: [B, outer, S, inner] with outer * inner channels, inner a multiple of
// kGroupNormLanes: blocked images (inner = 16) and channels last (outer = 1).
// Lanes beyond `channels` are zeros and stay zeros. Values are float, or
// bfloat16 as uint16_t; sums are in double, in an order that does not depend on
// `threads`.
struct GroupNormShape {
  size_t batch = 0;  // B
  size_t outer = 1;
  size_t spatial = 1;  // S
  size_t inner = 16;
  size_t channels = 0;  // <= outer * inner
  size_t groups = 1;    // divides channels
  double epsilon = 0;
  bool rectified = false;  // y = max(0, norm)

  size_t padded() const { return outer * inner; }
};

inline constexpr size_t kGroupNormLanes = 16;

// What both directions work in: sums: [B, 2, padded], coefficients:
// [B, 3, padded]. Nothing in it outlives a call.
struct GroupNormScratch {
  double* sums = nullptr;
  float* coefficients = nullptr;
};

// mean, inverse: [B, groups], kept for the way back.
template <typename Value>
void ForwardGroupNorm(const GroupNormShape& shape, int threads, const Value* x,
                      const float* scale, const float* shift,
                      const GroupNormScratch& scratch, float* mean,
                      float* inverse, Value* y);

// y: what Forward put out, read only where it was rectified. x_gradient: null
// where it is not wanted. scale_gradient, shift_gradient: [channels],
// overwritten.
template <typename Value>
void BackwardGroupNorm(const GroupNormShape& shape, int threads, const Value* x,
                       const Value* y, const float* scale, const float* mean,
                       const float* inverse, const Value* y_gradient,
                       const GroupNormScratch& scratch, Value* x_gradient,
                       float* scale_gradient, float* shift_gradient);

}  // namespace koinon::kernels::onednn

#endif  // KOINON_KERNELS_ONEDNN_GROUP_NORM_KERNEL_H_
