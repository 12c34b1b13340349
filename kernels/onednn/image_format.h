#ifndef KOINON_KERNELS_ONEDNN_IMAGE_FORMAT_H_
#define KOINON_KERNELS_ONEDNN_IMAGE_FORMAT_H_

#include <cstddef>
#include <dnnl.hpp>
#include <optional>

namespace koinon::kernels::onednn {

// How images lie in memory, as our own kernels see them: [outer, H, W, inner].
// Plain (nchw): outer = B * C, inner = 1. Channels last (nhwc): outer = B,
// inner = C. Blocked (nChw16c): outer = B * ceil(C / 16), inner = 16, where
// the channels beyond C are zeros that must stay zeros.
struct ImageFormat {
  dnnl::memory::format_tag tag = dnnl::memory::format_tag::undef;
  size_t outer = 0;
  size_t height = 0;
  size_t width = 0;
  size_t inner = 0;

  // The format of `image`, [B, C, H, W]; nullopt if it is none of these.
  static std::optional<ImageFormat> Of(const dnnl::memory::desc& image);
  // The same format and type for other extents.
  dnnl::memory::desc Desc(const dnnl::memory::dims& dims,
                          dnnl::memory::data_type type) const {
    return dnnl::memory::desc(dims, type, tag);
  }
};

}  // namespace koinon::kernels::onednn

#endif  // KOINON_KERNELS_ONEDNN_IMAGE_FORMAT_H_
