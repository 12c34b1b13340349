#include "kernels/graph/model_graph.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/random.h"
#include "base/status_macros.h"
#include "kernels/graph/layer_shape.h"
#include "kernels/graph/presets.h"

namespace koinon::kernels {
namespace {

using Shape = std::vector<int64_t>;

// The word that a layer's name starts with.
const char* NameStem(const v1::Layer& layer) {
  switch (layer.kind_case()) {
    case v1::Layer::kDense:
      return "fc";
    case v1::Layer::kConv2D:
      return "conv";
    case v1::Layer::kMaxPool:
    case v1::Layer::kAveragePool:
      return "pool";
    case v1::Layer::kGroupNorm:
    case v1::Layer::kLayerNorm:
      return "norm";
    default:
      return LayerKindName(layer);
  }
}

absl::Status CheckInputShape(const Shape& shape) {
  if (shape.size() != 1 && shape.size() != 3) {
    return absl::InvalidArgumentError(absl::StrCat(
        "model.input_shape: expected [size] or [channels, height, width], "
        "found ",
        ShapeText(shape)));
  }
  absl::StatusOr<int64_t> size =
      CheckedProduct(shape, ModelGraph::kMaxParameters);
  if (size.ok()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("model.input_shape: ", size.status().message()));
}

// Adds a layer's tensor; returns its index, or -1 for an empty shape.
int AddTensor(const std::string& name, const Shape& shape,
              std::vector<TensorSpec>* tensors) {
  if (shape.empty()) return -1;
  tensors->push_back({name, DType::kF32, shape});
  return static_cast<int>(tensors->size()) - 1;
}

absl::Status AddToTotal(const Shape& shape, int64_t* total) {
  if (shape.empty()) return absl::OkStatus();
  ABSL_ASSIGN_OR_RETURN(int64_t count,
                        CheckedProduct(shape, ModelGraph::kMaxParameters));
  *total += count;
  if (*total > ModelGraph::kMaxParameters) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "the model has over %d parameters here", ModelGraph::kMaxParameters));
  }
  return absl::OkStatus();
}

// Infers one layer's shapes, checking them against the bounds on the model.
absl::StatusOr<LayerShape> InferBounded(const Shape& input, v1::Layer* spec,
                                        int64_t* total_parameters) {
  ABSL_ASSIGN_OR_RETURN(LayerShape shape, InferLayerShape(input, spec));
  ABSL_RETURN_IF_ERROR(
      CheckedProduct(shape.output, ModelGraph::kMaxParameters).status());
  ABSL_RETURN_IF_ERROR(AddToTotal(shape.weight, total_parameters));
  ABSL_RETURN_IF_ERROR(AddToTotal(shape.bias, total_parameters));
  return shape;
}

absl::Status CheckWhole(const std::vector<ModelGraph::Layer>& layers,
                        int64_t total_parameters) {
  const ModelGraph::Layer& last = layers.back();
  if (last.output_shape.size() != 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "model: expected a flat output, found ", ShapeText(last.output_shape),
        " after ", last.name, "; end with a dense or flatten layer"));
  }
  if (total_parameters == 0) {
    return absl::InvalidArgumentError(
        "model: expected at least one layer with parameters (dense, conv2d, "
        "group_norm, layer_norm), found none");
  }
  return absl::OkStatus();
}

// Whether layer i's output, but for layers that keep its distribution's shape
// (norms, pooling, dropout, flatten), goes into a ReLU or GELU.
bool FeedsRectifier(const std::vector<ModelGraph::Layer>& layers, size_t i) {
  for (size_t j = i + 1; j < layers.size(); ++j) {
    const v1::Layer& next = layers[j].spec;
    if (next.has_dense() || next.has_conv2d()) return false;
    if (next.kind_case() == v1::Layer::kActivation) {
      return next.activation() == v1::Layer::RELU ||
             next.activation() == v1::Layer::GELU;
    }
  }
  return false;
}

}  // namespace

absl::StatusOr<ModelGraph> ModelGraph::Build(const v1::ModelSpec& spec) {
  ModelGraph graph;
  graph.input_shape_.assign(spec.input_shape().begin(),
                            spec.input_shape().end());
  ABSL_RETURN_IF_ERROR(CheckInputShape(graph.input_shape_));
  ABSL_ASSIGN_OR_RETURN(std::vector<v1::Layer> specs,
                        ExpandArchitecture(spec, kMaxLayers));
  if (specs.empty()) {
    return absl::InvalidArgumentError(
        "model.layers: expected at least one layer, found none");
  }
  std::map<std::string, int> used_names;
  std::vector<TensorSpec> tensors;
  int64_t total_parameters = 0;
  Shape input = graph.input_shape_;
  for (size_t i = 0; i < specs.size(); ++i) {
    absl::StatusOr<LayerShape> shape =
        InferBounded(input, &specs[i], &total_parameters);
    if (!shape.ok()) {
      return absl::InvalidArgumentError(
          absl::StrFormat("model: layer %d (%s): %s", i + 1,
                          LayerKindName(specs[i]), shape.status().message()));
    }
    Layer layer;
    const std::string stem = NameStem(specs[i]);
    layer.name = absl::StrCat(stem, ++used_names[stem]);
    layer.spec = std::move(specs[i]);
    layer.input_shape = input;
    layer.output_shape = shape->output;
    layer.weight = AddTensor(layer.name + ".weight", shape->weight, &tensors);
    layer.bias = AddTensor(layer.name + ".bias", shape->bias, &tensors);
    input = layer.output_shape;
    graph.layers_.push_back(std::move(layer));
  }
  ABSL_RETURN_IF_ERROR(CheckWhole(graph.layers_, total_parameters));
  ABSL_ASSIGN_OR_RETURN(graph.layout_, ModelLayout::Create(std::move(tensors)));
  graph.initial_ = graph.InitialValues();
  return graph;
}

int64_t ModelGraph::input_size() const {
  int64_t size = 1;
  for (int64_t extent : input_shape_) size *= extent;
  return size;
}

int64_t ModelGraph::output_size() const {
  return layers_.back().output_shape[0];
}

std::vector<ModelGraph::Initial> ModelGraph::InitialValues() const {
  std::vector<Initial> initial(layout_.tensors().size());
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    if (layer.weight < 0) continue;  // then it has no bias either
    if (!layer.spec.has_dense() && !layer.spec.has_conv2d()) {
      initial[layer.weight].constant = 1;
      continue;
    }
    // [out, in / groups, kernel...]: each output sees fan_in inputs, each
    // input reaches fan_out outputs.
    const Shape& shape = layout_.tensors()[layer.weight].shape;
    double window = 1;
    for (size_t d = 2; d < shape.size(); ++d) window *= shape[d];
    const int64_t groups =
        layer.spec.has_conv2d() ? layer.spec.conv2d().groups() : 1;
    const double fan_in = shape[1] * window;
    const double fan_out = shape[0] / groups * window;
    initial[layer.weight].bound = FeedsRectifier(layers_, i)
                                      ? std::sqrt(6 / fan_in)
                                      : std::sqrt(6 / (fan_in + fan_out));
  }
  return initial;
}

void ModelGraph::InitializeParameters(uint64_t seed, size_t offset,
                                      absl::Span<float> out) const {
  const size_t end = offset + out.size();
  size_t tensor_begin = 0;
  for (size_t t = 0; t < initial_.size() && tensor_begin < end; ++t) {
    const size_t tensor_end = tensor_begin + layout_.element_count(t);
    const size_t from = std::max(offset, tensor_begin);
    const size_t to = std::min(end, tensor_end);
    const Initial& initial = initial_[t];
    // By name, so that a layer starts alike in models that differ elsewhere.
    const uint64_t tensor_seed = DeriveSeed(seed, layout_.tensors()[t].name);
    for (size_t i = from; i < to; ++i) {
      out[i - offset] =
          initial.bound == 0
              ? initial.constant
              : static_cast<float>(
                    initial.bound *
                    (2 * UniformAt(tensor_seed, i - tensor_begin) - 1));
    }
    tensor_begin = tensor_end;
  }
}

}  // namespace koinon::kernels
