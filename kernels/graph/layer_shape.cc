#include "kernels/graph/layer_shape.h"

#include <cmath>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "base/status_macros.h"

namespace koinon::kernels {
namespace {

using Shape = std::vector<int64_t>;

constexpr double kDefaultEpsilon = 1e-5;
constexpr double kDefaultMomentum = 0.1;

// Large enough for anything real, small enough that sums and doubles of extents
// cannot overflow.
constexpr int64_t kMaxExtent = int64_t{1} << 40;

absl::Status CheckRange(absl::string_view field, int64_t value, int64_t low,
                        int64_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "%s: expected %d to %d, found %d", field, low, high, value));
}

absl::Status CheckImage(const Shape& input) {
  if (input.size() == 3) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "expected an image [channels, height, width] as input, found ",
      ShapeText(input)));
}

// Where a square window of `kernel` can stand on `input` with `padding` on each
// side, in steps of `stride`.
absl::StatusOr<int64_t> WindowCount(absl::string_view axis, int64_t input,
                                    int64_t kernel, int64_t stride,
                                    int64_t padding) {
  const int64_t padded = input + 2 * padding;
  if (kernel > padded) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "kernel: expected at most the padded %s of %d, found %d", axis, padded,
        kernel));
  }
  return (padded - kernel) / stride + 1;
}

absl::StatusOr<LayerShape> InferDense(const Shape& input,
                                      const v1::Layer::Dense& dense) {
  if (input.size() != 1 && input.size() != 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected a flat input or a sequence [positions, "
                     "features], found ",
                     ShapeText(input), "; put a flatten layer before it"));
  }
  ABSL_RETURN_IF_ERROR(CheckRange("units", dense.units(), 1, kMaxExtent));
  LayerShape shape;
  shape.output = input;
  shape.output.back() = dense.units();
  shape.weight = {dense.units(), input.back()};
  if (!dense.no_bias()) shape.bias = {dense.units()};
  return shape;
}

absl::Status CheckGroups(absl::string_view what, int64_t groups,
                         int64_t channels) {
  if (groups >= 1 && channels % groups == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("groups: expected a divisor of the %d %s, found %d",
                      channels, what, groups));
}

absl::StatusOr<LayerShape> InferConv2d(const Shape& input,
                                       v1::Layer::Conv2d* conv) {
  ABSL_RETURN_IF_ERROR(CheckImage(input));
  if (conv->stride() == 0) conv->set_stride(1);
  if (conv->groups() == 0) conv->set_groups(1);
  ABSL_RETURN_IF_ERROR(CheckRange("channels", conv->channels(), 1, kMaxExtent));
  ABSL_RETURN_IF_ERROR(CheckRange("kernel", conv->kernel(), 1, kMaxExtent));
  ABSL_RETURN_IF_ERROR(CheckRange("stride", conv->stride(), 1, kMaxExtent));
  // More padding than this only makes outputs that see nothing but zeros.
  ABSL_RETURN_IF_ERROR(
      CheckRange("padding", conv->padding(), 0, conv->kernel() - 1));
  ABSL_RETURN_IF_ERROR(CheckGroups("input channels", conv->groups(), input[0]));
  ABSL_RETURN_IF_ERROR(
      CheckGroups("output channels", conv->groups(), conv->channels()));
  const int64_t kernel = conv->kernel();
  ABSL_ASSIGN_OR_RETURN(
      int64_t height,
      WindowCount("height", input[1], kernel, conv->stride(), conv->padding()));
  ABSL_ASSIGN_OR_RETURN(
      int64_t width,
      WindowCount("width", input[2], kernel, conv->stride(), conv->padding()));
  LayerShape shape;
  shape.output = {conv->channels(), height, width};
  shape.weight = {conv->channels(), input[0] / conv->groups(), kernel, kernel};
  if (!conv->no_bias()) shape.bias = {conv->channels()};
  return shape;
}

absl::StatusOr<LayerShape> InferPool(const Shape& input,
                                     v1::Layer::Pool* pool) {
  ABSL_RETURN_IF_ERROR(CheckImage(input));
  ABSL_RETURN_IF_ERROR(CheckRange("kernel", pool->kernel(), 1, kMaxExtent));
  if (pool->stride() == 0) pool->set_stride(pool->kernel());
  ABSL_RETURN_IF_ERROR(CheckRange("stride", pool->stride(), 1, kMaxExtent));
  // So that every window sees at least one value.
  ABSL_RETURN_IF_ERROR(
      CheckRange("padding", pool->padding(), 0, pool->kernel() / 2));
  ABSL_ASSIGN_OR_RETURN(int64_t height,
                        WindowCount("height", input[1], pool->kernel(),
                                    pool->stride(), pool->padding()));
  ABSL_ASSIGN_OR_RETURN(int64_t width,
                        WindowCount("width", input[2], pool->kernel(),
                                    pool->stride(), pool->padding()));
  LayerShape shape;
  shape.output = {input[0], height, width};
  return shape;
}

absl::StatusOr<LayerShape> InferActivation(const Shape& input, int activation) {
  switch (activation) {
    case v1::Layer::RELU:
    case v1::Layer::GELU:
    case v1::Layer::TANH:
    case v1::Layer::SIGMOID:
    case v1::Layer::HARD_SWISH:
    case v1::Layer::HARD_SIGMOID: {
      LayerShape shape;
      shape.output = input;
      return shape;
    }
    default:
      return absl::InvalidArgumentError(absl::StrFormat(
          "activation: expected RELU, GELU, TANH, SIGMOID, HARD_SWISH or "
          "HARD_SIGMOID, found %d",
          activation));
  }
}

absl::StatusOr<LayerShape> InferDropout(const Shape& input, double rate) {
  if (!(rate >= 0 && rate < 1)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("rate: expected [0, 1), found %g", rate));
  }
  LayerShape shape;
  shape.output = input;
  return shape;
}

absl::Status CheckEpsilon(double epsilon) {
  if (std::isfinite(epsilon) && epsilon > 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("epsilon: expected a number above 0, found %g", epsilon));
}

// The norms of channels: of an image, or of a flat example whose values each
// are a channel.
absl::Status CheckChannels(const Shape& input) {
  if (input.size() == 1 || input.size() == 3) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("expected an image or a flat input, found ",
                   ShapeText(input), "; a layer_norm is for sequences"));
}

absl::StatusOr<LayerShape> InferGroupNorm(const Shape& input,
                                          v1::Layer::GroupNorm* norm) {
  if (norm->epsilon() == 0) norm->set_epsilon(kDefaultEpsilon);
  ABSL_RETURN_IF_ERROR(CheckChannels(input));
  ABSL_RETURN_IF_ERROR(CheckEpsilon(norm->epsilon()));
  ABSL_RETURN_IF_ERROR(CheckGroups("channels", norm->groups(), input[0]));
  LayerShape shape;
  shape.output = input;
  shape.weight = {input[0]};
  shape.bias = {input[0]};
  return shape;
}

absl::StatusOr<LayerShape> InferBatchNorm(const Shape& input,
                                          v1::Layer::BatchNorm* norm) {
  if (norm->epsilon() == 0) norm->set_epsilon(kDefaultEpsilon);
  if (norm->momentum() == 0) norm->set_momentum(kDefaultMomentum);
  ABSL_RETURN_IF_ERROR(CheckChannels(input));
  ABSL_RETURN_IF_ERROR(CheckEpsilon(norm->epsilon()));
  if (!(norm->momentum() > 0 && norm->momentum() <= 1)) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "momentum: expected (0, 1], found %g", norm->momentum()));
  }
  LayerShape shape;
  shape.output = input;
  shape.weight = {input[0]};
  shape.bias = {input[0]};
  shape.weight2 = {input[0]};
  shape.bias2 = {input[0]};
  return shape;
}

absl::StatusOr<LayerShape> InferLayerNorm(const Shape& input,
                                          v1::Layer::LayerNorm* norm) {
  if (norm->epsilon() == 0) norm->set_epsilon(kDefaultEpsilon);
  ABSL_RETURN_IF_ERROR(CheckEpsilon(norm->epsilon()));
  LayerShape shape;
  shape.output = input;
  // A sequence's positions share one scale and shift.
  shape.weight = input.size() == 2 ? Shape{input[1]} : input;
  shape.bias = shape.weight;
  return shape;
}

absl::StatusOr<LayerShape> InferEmbedding(const Shape& input,
                                          const v1::Layer::Embedding& layer) {
  if (input.size() != 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "expected tokens [positions] as input, found ", ShapeText(input)));
  }
  ABSL_RETURN_IF_ERROR(
      CheckRange("vocabulary", layer.vocabulary(), 1, kMaxVocabulary));
  ABSL_RETURN_IF_ERROR(CheckRange("width", layer.width(), 1, kMaxExtent));
  LayerShape shape;
  shape.output = {input[0], layer.width()};
  shape.weight = {layer.vocabulary(), layer.width()};
  if (!layer.no_positions()) shape.bias = {input[0], layer.width()};
  return shape;
}

absl::StatusOr<LayerShape> InferCausalAttention(
    const Shape& input, const v1::Layer::CausalAttention& attention) {
  if (input.size() != 2 || input[1] % 3 != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected queries, keys and values [positions, 3 * width] "
                     "as input, found ",
                     ShapeText(input)));
  }
  const int64_t width = input[1] / 3;
  if (attention.heads() < 1 || width % attention.heads() != 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("heads: expected a divisor of the width of %d, found "
                        "%d",
                        width, attention.heads()));
  }
  LayerShape shape;
  shape.output = {input[0], width};
  return shape;
}

absl::StatusOr<LayerShape> InferSqueezeExcite(
    const Shape& input, const v1::Layer::SqueezeExcite& layer) {
  ABSL_RETURN_IF_ERROR(CheckImage(input));
  ABSL_RETURN_IF_ERROR(CheckRange("hidden", layer.hidden(), 1, kMaxExtent));
  LayerShape shape;
  shape.output = input;
  shape.weight = {layer.hidden(), input[0]};
  shape.bias = {layer.hidden()};
  shape.weight2 = {input[0], layer.hidden()};
  shape.bias2 = {input[0]};
  return shape;
}

absl::StatusOr<LayerShape> InferGlobalAveragePool(const Shape& input) {
  ABSL_RETURN_IF_ERROR(CheckImage(input));
  LayerShape shape;
  shape.output = {input[0]};
  return shape;
}

absl::StatusOr<LayerShape> InferFlatten(const Shape& input) {
  LayerShape shape;
  ABSL_ASSIGN_OR_RETURN(int64_t size, CheckedProduct(input, kMaxExtent));
  shape.output = {size};
  return shape;
}

}  // namespace

absl::StatusOr<LayerShape> InferLayerShape(const Shape& input,
                                           v1::Layer* layer) {
  switch (layer->kind_case()) {
    case v1::Layer::kDense:
      return InferDense(input, layer->dense());
    case v1::Layer::kConv2D:
      return InferConv2d(input, layer->mutable_conv2d());
    case v1::Layer::kMaxPool:
      return InferPool(input, layer->mutable_max_pool());
    case v1::Layer::kAveragePool:
      return InferPool(input, layer->mutable_average_pool());
    case v1::Layer::kActivation:
      return InferActivation(input, layer->activation());
    case v1::Layer::kDropout:
      return InferDropout(input, layer->dropout().rate());
    case v1::Layer::kGroupNorm:
      return InferGroupNorm(input, layer->mutable_group_norm());
    case v1::Layer::kLayerNorm:
      return InferLayerNorm(input, layer->mutable_layer_norm());
    case v1::Layer::kFlatten:
      return InferFlatten(input);
    case v1::Layer::kBatchNorm:
      return InferBatchNorm(input, layer->mutable_batch_norm());
    case v1::Layer::kEmbedding:
      return InferEmbedding(input, layer->embedding());
    case v1::Layer::kCausalAttention:
      return InferCausalAttention(input, layer->causal_attention());
    case v1::Layer::kSqueezeExcite:
      return InferSqueezeExcite(input, layer->squeeze_excite());
    case v1::Layer::kGlobalAveragePool:
      return InferGlobalAveragePool(input);
    case v1::Layer::kResidual:
    case v1::Layer::kUnembedding:
    case v1::Layer::KIND_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError(
      "expected one of dense, conv2d, max_pool, average_pool, activation, "
      "dropout, group_norm, layer_norm, flatten, batch_norm, embedding, "
      "causal_attention, squeeze_excite, residual, global_average_pool, "
      "unembedding; found none");
}

absl::StatusOr<int64_t> CheckedProduct(const Shape& extents, int64_t limit) {
  int64_t product = 1;
  for (int64_t extent : extents) {
    if (extent < 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("shape ", ShapeText(extents),
                       ": expected extents of at least 1, found ", extent));
    }
    if (extent > limit / product) {
      return absl::InvalidArgumentError(
          absl::StrCat("shape ", ShapeText(extents), ": expected at most ",
                       limit, " elements"));
    }
    product *= extent;
  }
  return product;
}

const char* LayerKindName(const v1::Layer& layer) {
  switch (layer.kind_case()) {
    case v1::Layer::kDense:
      return "dense";
    case v1::Layer::kConv2D:
      return "conv2d";
    case v1::Layer::kMaxPool:
      return "max_pool";
    case v1::Layer::kAveragePool:
      return "average_pool";
    case v1::Layer::kActivation:
      return "activation";
    case v1::Layer::kDropout:
      return "dropout";
    case v1::Layer::kGroupNorm:
      return "group_norm";
    case v1::Layer::kLayerNorm:
      return "layer_norm";
    case v1::Layer::kFlatten:
      return "flatten";
    case v1::Layer::kBatchNorm:
      return "batch_norm";
    case v1::Layer::kEmbedding:
      return "embedding";
    case v1::Layer::kCausalAttention:
      return "causal_attention";
    case v1::Layer::kSqueezeExcite:
      return "squeeze_excite";
    case v1::Layer::kResidual:
      return "residual";
    case v1::Layer::kGlobalAveragePool:
      return "global_average_pool";
    case v1::Layer::kUnembedding:
      return "unembedding";
    case v1::Layer::KIND_NOT_SET:
      break;
  }
  return "no kind";
}

std::string ShapeText(const Shape& shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

}  // namespace koinon::kernels
