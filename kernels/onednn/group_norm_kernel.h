#ifndef KOINON_KERNELS_ONEDNN_GROUP_NORM_KERNEL_H_
#define KOINON_KERNELS_ONEDNN_GROUP_NORM_KERNEL_H_

#include <cstddef>
#include <cstdint>

namespace koinon::kernels::onednn {

// Group norm on images whose channels lie side by side in sixteens, with what
// stands behind it in a residual network: another image added, and the ReLU.
// One example at a time, which the cache holds between the two passes that each
// direction takes. norm_kernel.h has every other case.
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
  bool rectified = false;  // y = max(0, norm + other)
  // y, or the gradient of x, is put out rounded to bfloat16, for products that
  // read nothing else. Floats only.
  bool rounds_output = false;
  bool rounds_gradient = false;

  size_t padded() const { return outer * inner; }
};

inline constexpr size_t kGroupNormLanes = 16;

// What both directions work in: sums: [B, 2, padded], coefficients:
// [B, 3, padded]. Nothing in it outlives a call.
struct GroupNormScratch {
  double* sums = nullptr;
  float* coefficients = nullptr;
};

// Kept for the way back. mean, inverse: [B, groups]; line: [B, 2, padded], what
// x of a channel was multiplied by, and what was added.
struct GroupNormMoments {
  float* mean = nullptr;
  float* inverse = nullptr;
  float* line = nullptr;
};

// other: added to the norm before the ReLU; null for nothing.
template <typename Value>
void ForwardGroupNorm(const GroupNormShape& shape, int threads, const Value* x,
                      const Value* other, const float* scale,
                      const float* shift, const GroupNormScratch& scratch,
                      const GroupNormMoments& moments, Value* y);

// All like x.
template <typename Value>
struct GroupNormGradients {
  // The gradient of y: their sum. The second may be null, for nothing.
  const Value* first = nullptr;
  const Value* second = nullptr;
  // Where that sum is put, 0 where the ReLU was: the gradient of `other`. Null
  // where it is not wanted; then nothing was added on the way there, and
  // `second` is null. May be `first` or `second`.
  Value* whole = nullptr;
  // The gradient of x, or null where it is not wanted. May be `first` or
  // `second`, but not `whole`.
  Value* x = nullptr;
};

// y: what Forward put out, read only where it was rectified and `whole` is
// wanted. scale_gradient, shift_gradient: [channels], overwritten.
template <typename Value>
void BackwardGroupNorm(const GroupNormShape& shape, int threads, const Value* x,
                       const Value* y, const float* scale,
                       const GroupNormMoments& moments,
                       const GroupNormGradients<Value>& gradients,
                       const GroupNormScratch& scratch, float* scale_gradient,
                       float* shift_gradient);

}  // namespace koinon::kernels::onednn

#endif  // KOINON_KERNELS_ONEDNN_GROUP_NORM_KERNEL_H_
