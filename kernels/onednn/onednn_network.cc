#include "kernels/onednn/onednn_network.h"

#include <algorithm>
#include <dnnl.hpp>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "kernels/bfloat16.h"
#include "kernels/loss.h"
#include "kernels/onednn/builder.h"
#include "kernels/onednn/layer_node.h"
#include "kernels/onednn/openmp.h"

namespace koinon::kernels {
namespace {

using dnnl::memory;
using onednn::Builder;
using onednn::FusedActivation;
using onednn::LayerNode;

// Values of one batch between two layers.
constexpr int64_t kMaxBatchValues = int64_t{1} << 40;

absl::Status CheckMemory(const ModelGraph& graph, size_t batch_size) {
  int64_t largest = graph.input_size();
  for (const ModelGraph::Layer& layer : graph.layers()) {
    int64_t size = 1;
    for (int64_t extent : layer.output_shape) size *= extent;
    largest = std::max(largest, size);
  }
  if (largest <= kMaxBatchValues / static_cast<int64_t>(batch_size)) {
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(absl::StrFormat(
      "network: a batch of %d examples of up to %d values each; at most %d "
      "values are possible",
      batch_size, largest, kMaxBatchValues));
}

std::unique_ptr<LayerNode> NewNode(const ModelGraph::Layer& layer, size_t place,
                                   FusedActivation fused) {
  switch (layer.spec.kind_case()) {
    case v1::Layer::kDense:
      return onednn::NewDenseNode(layer, fused);
    case v1::Layer::kConv2D:
      return onednn::NewConv2dNode(layer, fused);
    case v1::Layer::kMaxPool:
    case v1::Layer::kAveragePool:
      return onednn::NewPoolNode(layer);
    case v1::Layer::kActivation:
      return onednn::NewActivationNode(layer);
    case v1::Layer::kDropout:
      return onednn::NewDropoutNode(layer, place);
    case v1::Layer::kGroupNorm:
    case v1::Layer::kLayerNorm:
      return onednn::NewNormNode(layer);
    case v1::Layer::kFlatten:
    default:  // ModelGraph lets none through
      break;
  }
  return onednn::NewFlattenNode(layer);
}

// A flat model's memory, aligned to cache lines, zeros at first.
memory NewFlat(size_t count, const dnnl::engine& engine) {
  memory flat(memory::desc({static_cast<int64_t>(count)},
                           memory::data_type::f32, memory::format_tag::x),
              engine);
  std::fill_n(onednn::Data(flat), count, 0.0f);
  return flat;
}

class OneDnnNetwork final : public Network {
 public:
  // Throws dnnl::error and std::bad_alloc. `*at` names the layer being
  // compiled.
  OneDnnNetwork(const ModelGraph& graph, const Options& options,
                std::string* at)
      : graph_(graph),
        options_(options),
        engine_(dnnl::engine::kind::cpu, 0),
        stream_(engine_),
        parameters_(NewFlat(graph.layout().total_elements(), engine_)) {
    // oneDNN plans for the number of threads at the time of planning.
    const onednn::ThreadScope threads(options.threads);
    Builder::Options building;
    building.batch = static_cast<int64_t>(options.batch_size);
    building.threads = options.threads;
    building.training = options.training;
    building.bfloat16 = options.bfloat16;
    building.parameters = onednn::Data(parameters_);
    if (options.training) {
      gradients_ = NewFlat(graph.layout().total_elements(), engine_);
      building.gradients = onednn::Data(gradients_);
    }
    builder_ = std::make_unique<Builder>(engine_, graph_.layout(), building);
    CompileForward(at);
    if (options.training) CompileBackward(at);
    builder_->Finish();
  }

  absl::Span<float> parameters() override {
    return absl::MakeSpan(onednn::Data(parameters_),
                          graph_.layout().total_elements());
  }
  absl::Span<float> gradients() override {
    if (!options_.training) return {};
    return absl::MakeSpan(onednn::Data(gradients_),
                          graph_.layout().total_elements());
  }
  absl::Span<const float> outputs() const override {
    return absl::MakeConstSpan(onednn::Data(output_),
                               latest_size_ * graph_.output_size());
  }

  absl::StatusOr<BatchMetrics> Evaluate(const Batch& batch) override {
    ABSL_RETURN_IF_ERROR(Check(batch));
    const onednn::ThreadScope threads(options_.threads);
    ABSL_RETURN_IF_ERROR(Forward(batch, Context(/*dropout=*/false, 0)));
    return ComputeLoss<float>(options_.loss, batch, graph_.output_size(),
                              onednn::Data(output_), nullptr);
  }

  absl::StatusOr<BatchMetrics> ForwardBackward(const Batch& batch,
                                               uint64_t step_seed,
                                               GradientsReady ready) override {
    if (!options_.training) {
      return absl::FailedPreconditionError(
          "network: made without `training`, asked for a training step");
    }
    ABSL_RETURN_IF_ERROR(Check(batch));
    const onednn::ThreadScope threads(options_.threads);
    const onednn::StepContext context = Context(/*dropout=*/true, step_seed);
    ABSL_RETURN_IF_ERROR(Forward(batch, context));
    float* gradient = onednn::Data(output_gradient_);
    const BatchMetrics metrics =
        ComputeLoss<float>(options_.loss, batch, graph_.output_size(),
                           onednn::Data(output_), gradient);
    // The examples that fill up a small batch have no part in the loss.
    std::fill(gradient + batch.size * graph_.output_size(),
              gradient + options_.batch_size * graph_.output_size(), 0.0f);
    ABSL_RETURN_IF_ERROR(builder_->backward().Run(context));
    ready(0, gradients().size());
    return metrics;
  }

 private:
  void CompileForward(std::string* at) {
    const auto& layers = graph_.layers();
    input_ = builder_->NewMemory(
        onednn::PlainDesc(builder_->batch(), graph_.input_shape()));
    memory value = input_;
    for (size_t i = 0; i < layers.size(); ++i) {
      *at = layers[i].name;
      const v1::Layer& spec = layers[i].spec;
      FusedActivation fused;
      if ((spec.has_dense() || spec.has_conv2d()) && i + 1 < layers.size() &&
          FusedActivation::CanFuse(layers[i + 1].spec)) {
        fused.kind = layers[i + 1].spec.activation();
      }
      nodes_.push_back(NewNode(layers[i], i, fused));
      has_parameters_.push_back(layers[i].weight >= 0);
      value = nodes_.back()->Forward(value, builder_.get());
      if (fused) ++i;
    }
    output_ = builder_->InFormat(
        value, onednn::PlainDesc({builder_->batch(), graph_.output_size()}),
        &builder_->forward());
  }

  void CompileBackward(std::string* at) {
    output_gradient_ = builder_->NewMemory(output_.get_desc());
    memory gradient = output_gradient_;
    // Nothing before the first layer with parameters needs a gradient.
    const size_t first =
        std::find(has_parameters_.begin(), has_parameters_.end(), true) -
        has_parameters_.begin();
    for (size_t i = nodes_.size(); i-- > first;) {
      *at = absl::StrCat("the way back of operation ", i);
      gradient = nodes_[i]->Backward(gradient, i > first, builder_.get());
    }
  }

  absl::Status Check(const Batch& batch) const {
    return CheckBatch(graph_, options_, batch);
  }

  onednn::StepContext Context(bool dropout, uint64_t step_seed) const {
    onednn::StepContext context;
    context.stream = stream_.get();
    context.threads = options_.threads;
    context.dropout = dropout;
    context.step_seed = step_seed;
    return context;
  }

  absl::Status Forward(const Batch& batch, const onednn::StepContext& context) {
    latest_size_ = batch.size;
    float* input = onednn::Data(input_);
    std::copy(batch.inputs.begin(), batch.inputs.end(), input);
    std::fill(input + batch.inputs.size(),
              input + options_.batch_size * graph_.input_size(), 0.0f);
    return builder_->forward().Run(context);
  }

  const ModelGraph graph_;
  const Options options_;
  const dnnl::engine engine_;
  const dnnl::stream stream_;
  memory parameters_;
  memory gradients_;
  std::unique_ptr<Builder> builder_;
  std::vector<std::unique_ptr<LayerNode>> nodes_;
  std::vector<bool> has_parameters_;  // of each node
  memory input_;
  memory output_;
  memory output_gradient_;
  size_t latest_size_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Network>> NewOneDnnNetwork(
    const ModelGraph& graph, const Network::Options& options) {
  ABSL_RETURN_IF_ERROR(CheckOptions(graph, options));
  ABSL_RETURN_IF_ERROR(CheckMemory(graph, options.batch_size));
  if (options.bfloat16) ABSL_RETURN_IF_ERROR(CheckBfloat16());
  std::string at = "the model's parameters";
  try {
    return std::make_unique<OneDnnNetwork>(graph, options, &at);
  } catch (const dnnl::error& error) {
    const std::string message =
        absl::StrFormat("network: oneDNN, at %s: %s (status %d)", at,
                        error.what(), static_cast<int>(error.status));
    return error.status == dnnl_out_of_memory
               ? absl::ResourceExhaustedError(message)
               : absl::InternalError(message);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(
        absl::StrCat("network: out of memory at ", at));
  }
}

}  // namespace koinon::kernels
