#include "kernels/graph/deep_presets.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "base/status_macros.h"
#include "kernels/graph/make_layer.h"

namespace koinon::kernels {
namespace {

using Layers = std::vector<v1::Layer>;

// Divides the channels of every layer of ResNet and of MobileNetV3-Small.
constexpr int64_t kNormGroups = 8;

absl::Status CheckRange(absl::string_view field, int64_t value, int64_t low,
                        int64_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "model.%s: expected %d to %d, found %d", field, low, high, value));
}

constexpr int64_t kMaxExtent = int64_t{1} << 40;

absl::Status CheckExtents(const v1::ModelSpec& spec, int expected,
                          absl::string_view what) {
  if (spec.input_shape_size() == expected) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("model.input_shape: %s; found %d extents", what,
                      spec.input_shape_size()));
}

absl::Status CheckNorm(absl::string_view model, v1::ConvNorm norm) {
  switch (norm) {
    case v1::CONV_NORM_UNSPECIFIED:
    case v1::GROUP_NORM:
    case v1::BATCH_NORM:
      return absl::OkStatus();
    default:
      return absl::InvalidArgumentError(absl::StrFormat(
          "model.%s.norm: expected GROUP_NORM or BATCH_NORM, found %d", model,
          static_cast<int>(norm)));
  }
}

void Append(Layers layers, Layers* to) {
  to->insert(to->end(), std::make_move_iterator(layers.begin()),
             std::make_move_iterator(layers.end()));
}

v1::Layer ResidualLayer(const Layers& body, const Layers& shortcut = {}) {
  v1::Layer layer;
  layer.mutable_residual()->mutable_body()->Assign(body.begin(), body.end());
  layer.mutable_residual()->mutable_shortcut()->Assign(shortcut.begin(),
                                                       shortcut.end());
  return layer;
}

v1::Layer ConvolutionWithoutBias(int64_t channels, int64_t kernel,
                                 int64_t stride, int64_t groups) {
  v1::Layer layer = SameSizeConvolution(channels, kernel);
  layer.mutable_conv2d()->set_stride(stride);
  layer.mutable_conv2d()->set_groups(groups);
  // The norm behind it has a shift.
  layer.mutable_conv2d()->set_no_bias(true);
  return layer;
}

// ResNet.

v1::Layer ResNetNorm(v1::ConvNorm norm) {
  v1::Layer layer;
  if (norm == v1::BATCH_NORM) {
    layer.mutable_batch_norm();
  } else {
    layer.mutable_group_norm()->set_groups(kNormGroups);
  }
  return layer;
}

// Two convolutions, added to their input.
Layers ResNetBlock(int64_t channels, int64_t stride, bool changes_shape,
                   v1::ConvNorm norm) {
  const Layers body = {ConvolutionWithoutBias(channels, 3, stride, 1),
                       ResNetNorm(norm), ActivationLayer(v1::Layer::RELU),
                       ConvolutionWithoutBias(channels, 3, 1, 1),
                       ResNetNorm(norm)};
  Layers shortcut;
  if (changes_shape) {
    shortcut = {ConvolutionWithoutBias(channels, 1, stride, 1),
                ResNetNorm(norm)};
  }
  return {ResidualLayer(body, shortcut), ActivationLayer(v1::Layer::RELU)};
}

// MobileNetV3-Small.

struct Bottleneck {
  int64_t in, kernel, expanded, out;
  bool squeeze;
  v1::Layer::Activation activation;
  int64_t stride;
};

constexpr Bottleneck kMobileNetV3Small[] = {
    {16, 3, 16, 16, true, v1::Layer::RELU, 2},
    {16, 3, 72, 24, false, v1::Layer::RELU, 2},
    {24, 3, 88, 24, false, v1::Layer::RELU, 1},
    {24, 5, 96, 40, true, v1::Layer::HARD_SWISH, 2},
    {40, 5, 240, 40, true, v1::Layer::HARD_SWISH, 1},
    {40, 5, 240, 40, true, v1::Layer::HARD_SWISH, 1},
    {40, 5, 120, 48, true, v1::Layer::HARD_SWISH, 1},
    {48, 5, 144, 48, true, v1::Layer::HARD_SWISH, 1},
    {48, 5, 288, 96, true, v1::Layer::HARD_SWISH, 2},
    {96, 5, 576, 96, true, v1::Layer::HARD_SWISH, 1},
    {96, 5, 576, 96, true, v1::Layer::HARD_SWISH, 1},
};

// The multiple of 8 next to a quarter of `channels`, not more than a tenth
// below it.
int64_t SqueezedChannels(int64_t channels) {
  const int64_t quarter = channels / 4;
  const int64_t rounded = std::max<int64_t>(8, (quarter + 4) / 8 * 8);
  return 10 * rounded < 9 * quarter ? rounded + 8 : rounded;
}

Layers MobileNetConvolution(int64_t channels, int64_t kernel, int64_t stride,
                            int64_t groups, v1::ConvNorm norm) {
  v1::Layer norm_layer;
  if (norm == v1::BATCH_NORM) {
    norm_layer.mutable_batch_norm()->set_epsilon(0.001);
    norm_layer.mutable_batch_norm()->set_momentum(0.01);
  } else {
    norm_layer.mutable_group_norm()->set_groups(kNormGroups);
  }
  return {ConvolutionWithoutBias(channels, kernel, stride, groups), norm_layer};
}

Layers BottleneckLayers(const Bottleneck& block, v1::ConvNorm norm) {
  Layers body;
  if (block.expanded != block.in) {
    Append(MobileNetConvolution(block.expanded, 1, 1, 1, norm), &body);
    body.push_back(ActivationLayer(block.activation));
  }
  Append(MobileNetConvolution(block.expanded, block.kernel, block.stride,
                              block.expanded, norm),
         &body);
  body.push_back(ActivationLayer(block.activation));
  if (block.squeeze) {
    body.push_back(SqueezeExciteLayer(SqueezedChannels(block.expanded)));
  }
  Append(MobileNetConvolution(block.out, 1, 1, 1, norm), &body);
  if (block.stride == 1 && block.in == block.out) return {ResidualLayer(body)};
  return body;
}

// GPT-2.

// A branch of a transformer's block: dropout at its end, added to its input.
v1::Layer GptBranch(Layers body, double dropout) {
  if (dropout > 0) body.push_back(DropoutLayer(dropout));
  return ResidualLayer(body);
}

absl::Status CheckGpt(const v1::ModelSpec& spec, size_t max_layers) {
  const v1::Gpt& gpt = spec.gpt();
  ABSL_RETURN_IF_ERROR(CheckExtents(spec, 1, "a gpt takes tokens [context]"));
  ABSL_RETURN_IF_ERROR(
      CheckRange("gpt.vocabulary", gpt.vocabulary(), 1, kMaxExtent));
  ABSL_RETURN_IF_ERROR(CheckRange("gpt.layers", gpt.layers(), 1,
                                  static_cast<int64_t>(max_layers)));
  ABSL_RETURN_IF_ERROR(CheckRange("gpt.width", gpt.width(), 1, kMaxExtent));
  ABSL_RETURN_IF_ERROR(CheckRange("gpt.heads", gpt.heads(), 1, gpt.width()));
  if (gpt.width() % gpt.heads() != 0) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "model.gpt.heads: expected a divisor of the width of %d, found %d",
        gpt.width(), gpt.heads()));
  }
  if (!(gpt.dropout() >= 0 && gpt.dropout() < 1)) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "model.gpt.dropout: expected [0, 1), found %g", gpt.dropout()));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<v1::Layer>> ExpandResNet(const v1::ModelSpec& spec,
                                                    size_t max_layers) {
  const v1::ResNet& resnet = spec.resnet();
  ABSL_RETURN_IF_ERROR(
      CheckExtents(spec, 3, "a resnet takes images [channels, height, width]"));
  ABSL_RETURN_IF_ERROR(
      CheckRange("resnet.classes", resnet.classes(), 1, kMaxExtent));
  ABSL_RETURN_IF_ERROR(CheckNorm("resnet", resnet.norm()));
  const int64_t depth = resnet.depth() == 0 ? 20 : resnet.depth();
  if (depth < 8 || (depth - 2) % 6 != 0 ||
      depth > static_cast<int64_t>(max_layers)) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "model.resnet.depth: expected 6n + 2, from 8 to at most %d, found %d",
        max_layers, depth));
  }
  Layers layers = {ConvolutionWithoutBias(16, 3, 1, 1),
                   ResNetNorm(resnet.norm()), ActivationLayer(v1::Layer::RELU)};
  for (int64_t stage = 0; stage < 3; ++stage) {
    for (int64_t block = 0; block < (depth - 2) / 6; ++block) {
      const bool changes_shape = stage > 0 && block == 0;
      Append(ResNetBlock(int64_t{16} << stage, changes_shape ? 2 : 1,
                         changes_shape, resnet.norm()),
             &layers);
    }
  }
  layers.push_back(GlobalAveragePoolLayer());
  layers.push_back(DenseLayer(resnet.classes()));
  return layers;
}

absl::StatusOr<std::vector<v1::Layer>> ExpandMobileNetV3Small(
    const v1::ModelSpec& spec) {
  const v1::MobileNetV3Small& net = spec.mobilenet_v3_small();
  ABSL_RETURN_IF_ERROR(CheckExtents(
      spec, 3, "a mobilenet_v3_small takes images [channels, height, width]"));
  ABSL_RETURN_IF_ERROR(
      CheckRange("mobilenet_v3_small.classes", net.classes(), 1, kMaxExtent));
  ABSL_RETURN_IF_ERROR(CheckNorm("mobilenet_v3_small", net.norm()));
  Layers layers = MobileNetConvolution(16, 3, 2, 1, net.norm());
  layers.push_back(ActivationLayer(v1::Layer::HARD_SWISH));
  for (const Bottleneck& block : kMobileNetV3Small) {
    Append(BottleneckLayers(block, net.norm()), &layers);
  }
  Append(MobileNetConvolution(576, 1, 1, 1, net.norm()), &layers);
  Append({ActivationLayer(v1::Layer::HARD_SWISH), GlobalAveragePoolLayer(),
          DenseLayer(1024), ActivationLayer(v1::Layer::HARD_SWISH),
          DropoutLayer(0.2), DenseLayer(net.classes())},
         &layers);
  return layers;
}

absl::StatusOr<std::vector<v1::Layer>> ExpandGpt(const v1::ModelSpec& spec,
                                                 size_t max_layers) {
  ABSL_RETURN_IF_ERROR(CheckGpt(spec, max_layers));
  const v1::Gpt& gpt = spec.gpt();
  v1::Layer embedding, attention, unembedding;
  embedding.mutable_embedding()->set_vocabulary(gpt.vocabulary());
  embedding.mutable_embedding()->set_width(gpt.width());
  attention.mutable_causal_attention()->set_heads(gpt.heads());
  unembedding.mutable_unembedding();
  Layers layers = {embedding};
  if (gpt.dropout() > 0) layers.push_back(DropoutLayer(gpt.dropout()));
  for (int64_t block = 0; block < gpt.layers(); ++block) {
    layers.push_back(GptBranch({LayerNormLayer(), DenseLayer(3 * gpt.width()),
                                attention, DenseLayer(gpt.width())},
                               gpt.dropout()));
    layers.push_back(
        GptBranch({LayerNormLayer(), DenseLayer(4 * gpt.width()),
                   ActivationLayer(v1::Layer::GELU), DenseLayer(gpt.width())},
                  gpt.dropout()));
  }
  layers.push_back(LayerNormLayer());
  layers.push_back(unembedding);
  return layers;
}

}  // namespace koinon::kernels
