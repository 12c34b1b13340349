#include "kernels/onednn/channel_format.h"

#include <algorithm>
#include <optional>

#include "kernels/onednn/image_format.h"

namespace koinon::kernels::onednn {

using dnnl::memory;

ChannelFormat::ChannelFormat(const memory::desc& input, int64_t batch,
                             const std::vector<int64_t>& input_shape) {
  desc = PlainDesc(batch, input_shape);
  shape.batch = static_cast<size_t>(batch);
  const std::optional<ImageFormat> format = ImageFormat::Of(input);
  if (!format.has_value()) {
    shape.blocks = static_cast<size_t>(input_shape[0]);
    for (size_t d = 1; d < input_shape.size(); ++d) {
      shape.spatial *= static_cast<size_t>(input_shape[d]);
    }
    return;
  }
  desc = format->Desc(desc.dims(), memory::data_type::f32);
  shape.blocks = format->outer / shape.batch;
  shape.spatial = format->height * format->width;
  shape.inner = format->inner;
}

memory NewFloats(size_t count, Builder* builder) {
  memory values = builder->NewMemory(PlainDesc({static_cast<int64_t>(count)}));
  std::fill_n(Data(values), count, 0.0f);
  return values;
}

memory NewDoubles(size_t count, Builder* builder) {
  return builder->NewMemory(
      memory::desc({static_cast<int64_t>(count * sizeof(double))},
                   memory::data_type::u8, memory::format_tag::x));
}

double* Doubles(const memory& memory) {
  return static_cast<double*>(memory.get_data_handle());
}

void MeansOf(const ChannelShape& shape, size_t channels, const double* sums,
             float* means) {
  for (size_t b = 0; b < shape.batch; ++b) {
    for (size_t c = 0; c < channels; ++c) {
      means[b * channels + c] = static_cast<float>(
          sums[b * shape.padded() + c] / static_cast<double>(shape.spatial));
    }
  }
}

}  // namespace koinon::kernels::onednn
