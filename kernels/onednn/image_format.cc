#include "kernels/onednn/image_format.h"

namespace koinon::kernels::onednn {

using dnnl::memory;

std::optional<ImageFormat> ImageFormat::Of(const memory::desc& image) {
  const memory::dims dims = image.dims();
  if (dims.size() != 4) return std::nullopt;
  const size_t batch = dims[0], channels = dims[1];
  ImageFormat format;
  format.height = dims[2];
  format.width = dims[3];
  const auto is = [&](memory::format_tag tag) {
    return image == memory::desc(dims, image.data_type(), tag);
  };
  const auto found = [&](memory::format_tag tag, size_t outer, size_t inner) {
    format.tag = tag;
    format.outer = outer;
    format.inner = inner;
    return format;
  };
  if (is(memory::format_tag::nhwc)) {
    return found(memory::format_tag::nhwc, batch, channels);
  }
  if (is(memory::format_tag::nChw16c)) {
    return found(memory::format_tag::nChw16c, batch * ((channels + 15) / 16),
                 16);
  }
  if (is(memory::format_tag::nchw)) {
    return found(memory::format_tag::nchw, batch * channels, 1);
  }
  return std::nullopt;
}

}  // namespace koinon::kernels::onednn
