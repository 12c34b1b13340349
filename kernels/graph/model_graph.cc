#include "kernels/graph/model_graph.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

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

// What a layer's tensors are called behind its name, as PyTorch calls them.
struct TensorNames {
  const char* weight = "weight";
  const char* bias = "bias";
  const char* weight2 = "";
  const char* bias2 = "";
};

TensorNames TensorNamesOf(const v1::Layer& layer) {
  switch (layer.kind_case()) {
    case v1::Layer::kEmbedding:
      return {.bias = "positions"};
    case v1::Layer::kBatchNorm:
      return {.weight2 = "running_mean", .bias2 = "running_var"};
    case v1::Layer::kSqueezeExcite:
      return {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"};
    default:
      return {};
  }
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

// A value on its way through the layers.
struct Flow {
  int value = 0;
  Shape shape;
};

// Writes layers one after the other, residuals as the layers that they are made
// of.
class LayerWriter {
 public:
  // `layers`: any range of v1::Layer. `where`: what errors start with.
  template <typename Layers>
  absl::StatusOr<Flow> AddSequence(const Layers& layers, Flow flow,
                                   const std::string& where, int depth) {
    int place = 0;
    for (const v1::Layer& layer : layers) {
      const std::string here = absl::StrCat(where, " ", ++place);
      ABSL_ASSIGN_OR_RETURN(
          flow, layer.has_residual()
                    ? AddResidual(layer.residual(), flow, here, depth + 1)
                    : AddPlain(layer, flow, here));
    }
    return flow;
  }

  int64_t total_parameters() const { return total_parameters_; }
  std::vector<ModelGraph::Layer>& layers() { return layers_; }
  std::vector<TensorSpec>& tensors() { return tensors_; }

 private:
  static absl::Status ErrorAt(const std::string& where, const v1::Layer& layer,
                              absl::string_view message) {
    return absl::InvalidArgumentError(absl::StrCat(
        "model: ", where, " (", LayerKindName(layer), "): ", message));
  }

  absl::StatusOr<Flow> AddResidual(const v1::Layer::Residual& residual,
                                   const Flow& flow, const std::string& where,
                                   int depth) {
    v1::Layer sum;
    sum.mutable_residual();
    if (depth > ModelGraph::kMaxResidualDepth) {
      return ErrorAt(
          where, sum,
          absl::StrFormat("expected at most %d residuals within each other",
                          ModelGraph::kMaxResidualDepth));
    }
    if (residual.body().empty()) {
      return ErrorAt(where, sum, "body: expected at least one layer");
    }
    ABSL_ASSIGN_OR_RETURN(const Flow body,
                          AddSequence(residual.body(), flow,
                                      absl::StrCat(where, ", body"), depth));
    ABSL_ASSIGN_OR_RETURN(
        const Flow shortcut,
        AddSequence(residual.shortcut(), flow,
                    absl::StrCat(where, ", shortcut"), depth));
    if (body.shape != shortcut.shape) {
      return ErrorAt(
          where, sum,
          absl::StrCat("expected body and shortcut to end in one shape, found ",
                       ShapeText(body.shape), " and ",
                       ShapeText(shortcut.shape)));
    }
    LayerShape shape;
    shape.output = body.shape;
    return Append(std::move(sum), body, shortcut.value, shape, where);
  }

  absl::StatusOr<Flow> AddPlain(v1::Layer layer, const Flow& flow,
                                const std::string& where) {
    absl::StatusOr<LayerShape> shape = Infer(flow, &layer);
    if (shape.ok()) {
      const absl::Status bounded = CountParameters(*shape);
      if (!bounded.ok()) shape = bounded;
    }
    if (!shape.ok()) return ErrorAt(where, layer, shape.status().message());
    return Append(std::move(layer), flow, -1, *shape, where);
  }

  absl::StatusOr<LayerShape> Infer(const Flow& flow, v1::Layer* layer) const {
    if (layer->has_unembedding()) return InferUnembedding(flow.shape);
    if (layer->has_embedding()) {
      if (flow.value != 0) {
        return absl::InvalidArgumentError(
            "expected the model's input, which are tokens, found what a layer "
            "puts out");
      }
      if (embedding_ >= 0) {
        return absl::InvalidArgumentError("expected one in a model, found two");
      }
    }
    return InferLayerShape(flow.shape, layer);
  }

  absl::StatusOr<LayerShape> InferUnembedding(const Shape& input) const {
    if (embedding_ < 0) {
      return absl::InvalidArgumentError(
          "expected an embedding before it, found none");
    }
    if (unembedded_) {
      return absl::InvalidArgumentError("expected one in a model, found two");
    }
    const v1::Layer::Embedding& embedding =
        layers_[embedding_].spec.embedding();
    if (input.size() != 2 || input[1] != embedding.width()) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "expected a sequence [positions, %d] as the embedding makes it, "
          "found %s",
          embedding.width(), ShapeText(input)));
    }
    LayerShape shape;
    shape.output = {input[0], embedding.vocabulary()};
    return shape;
  }

  absl::Status CountParameters(const LayerShape& shape) {
    ABSL_RETURN_IF_ERROR(
        CheckedProduct(shape.output, ModelGraph::kMaxParameters).status());
    for (const Shape* tensor :
         {&shape.weight, &shape.bias, &shape.weight2, &shape.bias2}) {
      ABSL_RETURN_IF_ERROR(AddToTotal(*tensor, &total_parameters_));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<Flow> Append(v1::Layer spec, const Flow& flow, int other,
                              const LayerShape& shape,
                              const std::string& where) {
    if (layers_.size() >= ModelGraph::kMaxLayers) {
      return ErrorAt(where, spec,
                     absl::StrFormat("expected at most %d layers in all",
                                     ModelGraph::kMaxLayers));
    }
    const int index = static_cast<int>(layers_.size());
    ModelGraph::Layer layer;
    const std::string stem = NameStem(spec);
    layer.name = absl::StrCat(stem, ++used_names_[stem]);
    layer.input = flow.value;
    layer.other = other;
    layer.input_shape = flow.shape;
    layer.output_shape = shape.output;
    const TensorNames names = TensorNamesOf(spec);
    layer.weight = AddTensor(layer.name, names.weight, shape.weight);
    layer.bias = AddTensor(layer.name, names.bias, shape.bias);
    layer.weight2 = AddTensor(layer.name, names.weight2, shape.weight2);
    layer.bias2 = AddTensor(layer.name, names.bias2, shape.bias2);
    if (spec.has_embedding()) embedding_ = index;
    if (spec.has_unembedding()) {
      unembedded_ = true;
      layer.weight = layers_[embedding_].weight;
    }
    layer.spec = std::move(spec);
    layers_.push_back(std::move(layer));
    return Flow{index + 1, shape.output};
  }

  // Returns its index, or -1 for an empty shape.
  int AddTensor(const std::string& layer, const char* name,
                const Shape& shape) {
    if (shape.empty()) return -1;
    tensors_.push_back({absl::StrCat(layer, ".", name), DType::kF32, shape});
    return static_cast<int>(tensors_.size()) - 1;
  }

  std::vector<ModelGraph::Layer> layers_;
  std::vector<TensorSpec> tensors_;
  std::map<std::string, int> used_names_;
  int64_t total_parameters_ = 0;
  int embedding_ = -1;
  bool unembedded_ = false;
};

absl::Status CheckWhole(const std::vector<ModelGraph::Layer>& layers,
                        int64_t total_parameters) {
  const ModelGraph::Layer& last = layers.back();
  if (last.output_shape.size() > 2) {
    return absl::InvalidArgumentError(absl::StrCat(
        "model: expected a flat output or one of each position, found ",
        ShapeText(last.output_shape), " after ", last.name,
        "; end with a dense or flatten layer"));
  }
  if (total_parameters == 0) {
    return absl::InvalidArgumentError(
        "model: expected at least one layer with parameters (dense, conv2d, "
        "group_norm, layer_norm, batch_norm, embedding, squeeze_excite), found "
        "none");
  }
  return absl::OkStatus();
}

// The first layer that reads value `value`; their number if none does.
size_t FirstReader(const std::vector<ModelGraph::Layer>& layers, int value) {
  size_t reader = value;  // value i + 1 is layer i's, and read by later ones
  while (reader < layers.size() && layers[reader].input != value &&
         layers[reader].other != value) {
    ++reader;
  }
  return reader;
}

// Whether layer i's output, but for layers that keep its distribution's shape
// (norms, pooling, dropout, flatten, sums), goes into a rectifier.
bool FeedsRectifier(const std::vector<ModelGraph::Layer>& layers, size_t i) {
  for (size_t j = FirstReader(layers, static_cast<int>(i) + 1);
       j < layers.size(); j = FirstReader(layers, static_cast<int>(j) + 1)) {
    const v1::Layer& next = layers[j].spec;
    if (next.has_dense() || next.has_conv2d() || next.has_squeeze_excite() ||
        next.has_causal_attention() || next.has_unembedding()) {
      return false;
    }
    if (next.kind_case() == v1::Layer::kActivation) {
      return next.activation() == v1::Layer::RELU ||
             next.activation() == v1::Layer::GELU ||
             next.activation() == v1::Layer::HARD_SWISH;
    }
  }
  return false;
}

// The bound of the uniform distribution that weights [out, in, window...] are
// drawn from: each output sees fan_in inputs, each input reaches fan_out
// outputs.
double UniformBound(const Shape& shape, int64_t groups, bool feeds_rectifier) {
  double window = 1;
  for (size_t d = 2; d < shape.size(); ++d) window *= shape[d];
  const double fan_in = shape[1] * window;
  const double fan_out = shape[0] / groups * window;
  return feeds_rectifier ? std::sqrt(6 / fan_in)
                         : std::sqrt(6 / (fan_in + fan_out));
}

// The dense layer whose output, but for dropout, is what residual `layer` adds;
// null if it is another kind of layer.
const ModelGraph::Layer* LastDense(const std::vector<ModelGraph::Layer>& layers,
                                   const ModelGraph::Layer& residual) {
  int value = residual.input;
  while (value > 0 && layers[value - 1].spec.has_dropout()) {
    value = layers[value - 1].input;
  }
  if (value == 0 || !layers[value - 1].spec.has_dense()) return nullptr;
  return &layers[value - 1];
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
  LayerWriter writer;
  ABSL_RETURN_IF_ERROR(
      writer.AddSequence(specs, {0, graph.input_shape_}, "layer", 0).status());
  ABSL_RETURN_IF_ERROR(CheckWhole(writer.layers(), writer.total_parameters()));
  graph.layers_ = std::move(writer.layers());
  ABSL_ASSIGN_OR_RETURN(graph.layout_,
                        ModelLayout::Create(std::move(writer.tensors())));
  graph.is_buffer_.resize(graph.layout_.tensors().size());
  for (const Layer& layer : graph.layers_) {
    if (!layer.spec.has_batch_norm()) continue;
    graph.is_buffer_[layer.weight2] = graph.is_buffer_[layer.bias2] = true;
  }
  graph.initial_ = graph.InitialValues();
  return graph;
}

int64_t ModelGraph::input_size() const {
  int64_t size = 1;
  for (int64_t extent : input_shape_) size *= extent;
  return size;
}

int64_t ModelGraph::output_size() const {
  return layers_.back().output_shape.back();
}

int64_t ModelGraph::output_positions() const {
  const std::vector<int64_t>& shape = layers_.back().output_shape;
  return shape.size() == 2 ? shape[0] : 1;
}

int64_t ModelGraph::vocabulary() const {
  for (const Layer& layer : layers_) {
    if (layer.spec.has_embedding()) return layer.spec.embedding().vocabulary();
  }
  return 0;
}

bool ModelGraph::is_buffer(size_t index) const { return is_buffer_[index]; }

std::vector<ModelGraph::Initial> ModelGraph::InitialValues() const {
  const auto& tensors = layout_.tensors();
  std::vector<Initial> initial(tensors.size());
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    switch (layer.spec.kind_case()) {
      case v1::Layer::kDense:
      case v1::Layer::kConv2D:
        initial[layer.weight].bound = UniformBound(
            tensors[layer.weight].shape,
            layer.spec.has_conv2d() ? layer.spec.conv2d().groups() : 1,
            FeedsRectifier(layers_, i));
        break;
      case v1::Layer::kSqueezeExcite:
        initial[layer.weight].bound =
            UniformBound(tensors[layer.weight].shape, 1, true);
        initial[layer.weight2].bound =
            UniformBound(tensors[layer.weight2].shape, 1, false);
        break;
      case v1::Layer::kGroupNorm:
      case v1::Layer::kLayerNorm:
        initial[layer.weight].constant = 1;
        break;
      case v1::Layer::kBatchNorm:
        initial[layer.weight].constant = initial[layer.bias2].constant = 1;
        break;
      default:
        break;
    }
  }
  if (vocabulary() > 0) SetInitialOfSequenceModel(&initial);
  return initial;
}

void ModelGraph::SetInitialOfSequenceModel(
    std::vector<Initial>* initial) const {
  constexpr double kDeviation = 0.02;
  int residuals = 0;
  for (const Layer& layer : layers_) {
    if (layer.spec.has_dense()) {
      (*initial)[layer.weight] = {.deviation = kDeviation};
    }
    if (layer.spec.has_embedding()) {
      (*initial)[layer.weight].deviation = kDeviation;
      if (layer.bias >= 0) (*initial)[layer.bias].deviation = kDeviation;
    }
    residuals += layer.spec.has_residual();
  }
  for (const Layer& layer : layers_) {
    if (!layer.spec.has_residual()) continue;
    const Layer* last = LastDense(layers_, layer);
    if (last == nullptr) continue;
    (*initial)[last->weight].deviation = kDeviation / std::sqrt(residuals);
  }
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
      const size_t place = i - tensor_begin;
      double value = initial.constant;
      if (initial.bound > 0) {
        value = initial.bound * (2 * UniformAt(tensor_seed, place) - 1);
      } else if (initial.deviation > 0) {
        value = initial.deviation * NormalAt(tensor_seed, place);
      }
      out[i - offset] = static_cast<float>(value);
    }
    tensor_begin = tensor_end;
  }
}

}  // namespace koinon::kernels
