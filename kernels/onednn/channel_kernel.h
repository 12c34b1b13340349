#ifndef KOINON_KERNELS_ONEDNN_CHANNEL_KERNEL_H_
#define KOINON_KERNELS_ONEDNN_CHANNEL_KERNEL_H_

#include <cstddef>

namespace koinon::kernels::onednn {

// What batch norm, global pooling and squeeze-and-excite do to images: sums
// over the values of a channel, and functions of a value and its channel.
//
// x, y: [B, K, S, I], where channel c is lane c % I of block c / I. Plain
// images: K = C, I = 1; channels last: K = 1, I = C; blocked: I = 16, and the
// lanes beyond C are zeros and stay zeros, wherever coefficients of theirs are.
// Arrays by channel have P = K * I values.
//
// No sum depends on `threads`.
struct ChannelShape {
  size_t batch = 0;    // B
  size_t blocks = 0;   // K
  size_t spatial = 1;  // S
  size_t inner = 1;    // I

  size_t padded() const { return blocks * inner; }
  size_t units() const { return batch * blocks; }
};

// Of the first `examples`: sums and squares, [examples, P], of each channel of
// each example.
void SumChannels(const ChannelShape& shape, int threads, size_t examples,
                 const float* x, double* sums, double* squares);
// Likewise sums of dy, and of dy * (x - center); center: [P], or null for 0.
void SumProducts(const ChannelShape& shape, int threads, size_t examples,
                 const float* x, const float* center, const float* dy,
                 double* sums, double* products);

// y = (x - center) * factor + offset. All [P]. y may be x.
void ScaleChannels(const ChannelShape& shape, int threads, const float* x,
                   const float* center, const float* factor,
                   const float* offset, float* y);
// dx = dy * factor + (x - center) * slope + offset. dx may be dy.
void BackwardScaleChannels(const ChannelShape& shape, int threads,
                           const float* x, const float* center, const float* dy,
                           const float* factor, const float* slope,
                           const float* offset, float* dx);

// The same with coefficients by example: factor, offset: [B, P].
// y = x * factor + offset; offset may be null for 0, and x null for 0. y may be
// x.
void GateChannels(const ChannelShape& shape, int threads, const float* x,
                  const float* factor, const float* offset, float* y);

}  // namespace koinon::kernels::onednn

#endif  // KOINON_KERNELS_ONEDNN_CHANNEL_KERNEL_H_
