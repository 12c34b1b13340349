#ifndef KOINON_KERNELS_ONEDNN_MAX_POOL_KERNEL_H_
#define KOINON_KERNELS_ONEDNN_MAX_POOL_KERNEL_H_

#include <cstddef>
#include <cstdint>

namespace koinon::kernels::onednn {

// Max pooling of our own, for windows that do not overlap, without padding, on
// images whose channels lie side by side. On the way back every gradient is
// written once, that of a ReLU before the pooling included: a window whose
// largest value is not above 0 passes nothing on.
//
// x: [outer, H, W, inner], y, index: [outer, P, Q, inner], where
// P = (H - kernel) / stride + 1 and Q likewise. Values are float, or bfloat16
// as uint16_t.
struct MaxPoolShape {
  size_t outer = 0;
  size_t height = 0;  // H
  size_t width = 0;   // W
  size_t inner = 0;   // a multiple of kMaxPoolLanes
  size_t kernel = 0;  // <= 15
  size_t stride = 0;  // >= kernel
  // The input is what a ReLU put out: where it is 0, so is its gradient.
  bool rectified = false;
  // y, or the gradient of x, is put out rounded to bfloat16, for products that
  // read nothing else. Floats only.
  bool rounds_output = false;
  bool rounds_gradient = false;

  size_t output_height() const { return (height - kernel) / stride + 1; }
  size_t output_width() const { return (width - kernel) / stride + 1; }
};

inline constexpr size_t kMaxPoolLanes = 16;

// Values that are as large keep the first. index: which value of the window was
// taken, row by row, or kNoMaximum; null where it is not wanted.
inline constexpr uint8_t kNoMaximum = 255;
template <typename Value>
void ForwardMaxPool(const MaxPoolShape& shape, int threads, const Value* x,
                    Value* y, uint8_t* index);

// x_gradient is overwritten.
template <typename Value>
void BackwardMaxPool(const MaxPoolShape& shape, int threads,
                     const Value* y_gradient, const uint8_t* index,
                     Value* x_gradient);

}  // namespace koinon::kernels::onednn

#endif  // KOINON_KERNELS_ONEDNN_MAX_POOL_KERNEL_H_
