#ifndef KOINON_KERNELS_ONEDNN_CHANNEL_FORMAT_H_
#define KOINON_KERNELS_ONEDNN_CHANNEL_FORMAT_H_

#include <cstddef>
#include <cstdint>
#include <dnnl.hpp>
#include <vector>

#include "kernels/onednn/builder.h"
#include "kernels/onednn/channel_kernel.h"

namespace koinon::kernels::onednn {

// What the nodes that sum over channels share.

// How a node's input lies: as it comes, if our kernels can read that, in single
// precision. A flat example's values are channels of one pixel.
struct ChannelFormat {
  ChannelFormat() = default;
  ChannelFormat(const dnnl::memory::desc& input, int64_t batch,
                const std::vector<int64_t>& input_shape);

  ChannelShape shape;
  dnnl::memory::desc desc;
};

// Zeros: [count].
dnnl::memory NewFloats(size_t count, Builder* builder);
// Memory of [count] doubles, which oneDNN does not know.
dnnl::memory NewDoubles(size_t count, Builder* builder);
double* Doubles(const dnnl::memory& memory);

// sums: [B, padded]; means of S values each: [B, channels].
void MeansOf(const ChannelShape& shape, size_t channels, const double* sums,
             float* means);

}  // namespace koinon::kernels::onednn

#endif  // KOINON_KERNELS_ONEDNN_CHANNEL_FORMAT_H_
