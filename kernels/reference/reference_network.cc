#include "kernels/reference/reference_network.h"

#include <algorithm>
#include <vector>

#include "absl/status/status.h"
#include "base/status_macros.h"
#include "kernels/dropout_mask.h"
#include "kernels/loss.h"
#include "kernels/reference/layers.h"

namespace koinon::kernels {
namespace {

using reference::ElementCount;
using reference::LayerTensors;
using reference::StepState;

class ReferenceNetwork final : public Network {
 public:
  ReferenceNetwork(const ModelGraph& graph, const Options& options)
      : graph_(graph),
        options_(options),
        parameters_(graph.layout().total_elements()),
        wide_parameters_(parameters_.size()) {
    activations_.emplace_back(options.batch_size * graph.input_size());
    for (const ModelGraph::Layer& layer : graph.layers()) {
      activations_.emplace_back(options.batch_size *
                                ElementCount(layer.output_shape));
    }
    if (!options.training) return;
    gradients_.resize(parameters_.size());
    wide_gradients_.resize(parameters_.size());
    size_t largest = 0;
    for (const auto& values : activations_) {
      activation_gradients_.emplace_back(values.size());
      largest = std::max(largest, values.size());
    }
    contribution_.resize(largest);
  }

  absl::Span<float> parameters() override {
    return absl::MakeSpan(parameters_);
  }
  absl::Span<float> gradients() override { return absl::MakeSpan(gradients_); }
  absl::Span<const float> outputs() const override { return outputs_; }

  absl::StatusOr<BatchMetrics> Evaluate(const Batch& batch) override {
    ABSL_RETURN_IF_ERROR(Check(batch));
    Forward(batch, /*training=*/false, 0);
    return ComputeLoss<double>(options_.loss, RowsOf(graph_, batch),
                               graph_.output_size(), activations_.back().data(),
                               nullptr);
  }

  absl::StatusOr<BatchMetrics> ForwardBackward(const Batch& batch,
                                               uint64_t step_seed,
                                               GradientsReady ready) override {
    if (!options_.training) {
      return absl::FailedPreconditionError(
          "network: made without `training`, asked for a training step");
    }
    ABSL_RETURN_IF_ERROR(Check(batch));
    Forward(batch, /*training=*/true, step_seed);
    SetBuffers();
    for (auto& values : activation_gradients_) {
      std::fill(values.begin(), values.end(), 0.0);
    }
    const BatchMetrics metrics = ComputeLoss<double>(
        options_.loss, RowsOf(graph_, batch), graph_.output_size(),
        activations_.back().data(), activation_gradients_.back().data());
    Backward(batch, step_seed);
    ready(0, gradients_.size());
    return metrics;
  }

 private:
  absl::Status Check(const Batch& batch) const {
    return CheckBatch(graph_, options_, batch);
  }

  void Forward(const Batch& batch, bool training, uint64_t step_seed) {
    std::copy(parameters_.begin(), parameters_.end(), wide_parameters_.begin());
    std::copy(batch.inputs.begin(), batch.inputs.end(),
              activations_[0].begin());
    for (size_t i = 0; i < graph_.layers().size(); ++i) {
      reference::ForwardLayer(graph_.layers()[i],
                              StepState{training, DropoutSeed(step_seed, i)},
                              TensorsOf(i, batch.size));
    }
    const size_t count =
        batch.size * graph_.output_positions() * graph_.output_size();
    outputs_.assign(activations_.back().begin(),
                    activations_.back().begin() + count);
  }

  void Backward(const Batch& batch, uint64_t step_seed) {
    std::fill(wide_gradients_.begin(), wide_gradients_.end(), 0.0);
    for (size_t i = graph_.layers().size(); i-- > 0;) {
      const ModelGraph::Layer& layer = graph_.layers()[i];
      const std::vector<double>& gradient = activation_gradients_[i + 1];
      LayerTensors tensors = TensorsOf(i, batch.size);
      tensors.input_gradient = contribution_.data();
      tensors.output_gradient = gradient.data();
      tensors.weight_gradient = Tensor(wide_gradients_, layer.weight);
      tensors.bias_gradient = Tensor(wide_gradients_, layer.bias);
      tensors.weight2_gradient = Tensor(wide_gradients_, layer.weight2);
      tensors.bias2_gradient = Tensor(wide_gradients_, layer.bias2);
      reference::BackwardLayer(
          layer, StepState{true, DropoutSeed(step_seed, i)}, tensors);
      Add(contribution_, layer.input, layer.input_shape, batch.size);
      if (layer.other >= 0) {
        Add(gradient, layer.other, layer.input_shape, batch.size);
      }
    }
    std::copy(wide_gradients_.begin(), wide_gradients_.end(),
              gradients_.begin());
  }

  // What one reader contributes to the gradient of `value`.
  void Add(const std::vector<double>& contribution, int value,
           const std::vector<int64_t>& shape, size_t batch) {
    std::vector<double>& sum = activation_gradients_[value];
    const size_t count = batch * ElementCount(shape);
    for (size_t i = 0; i < count; ++i) sum[i] += contribution[i];
  }

  // What the forward pass of a training step wrote to the parameters.
  void SetBuffers() {
    for (size_t t = 0; t < graph_.layout().tensors().size(); ++t) {
      if (!graph_.is_buffer(t)) continue;
      const size_t first = graph_.layout().offset_bytes(t) / sizeof(float);
      std::copy_n(wide_parameters_.begin() + first,
                  graph_.layout().element_count(t),
                  parameters_.begin() + first);
    }
  }

  LayerTensors TensorsOf(size_t i, size_t batch) {
    const ModelGraph::Layer& layer = graph_.layers()[i];
    LayerTensors tensors;
    tensors.batch = batch;
    tensors.weight = Tensor(wide_parameters_, layer.weight);
    tensors.bias = Tensor(wide_parameters_, layer.bias);
    tensors.weight2 = Tensor(wide_parameters_, layer.weight2);
    tensors.bias2 = Tensor(wide_parameters_, layer.bias2);
    tensors.input = activations_[layer.input].data();
    if (layer.other >= 0) tensors.other = activations_[layer.other].data();
    tensors.output = activations_[i + 1].data();
    return tensors;
  }

  // Tensor `index` of a flat model; null for -1.
  double* Tensor(std::vector<double>& flat, int index) const {
    if (index < 0) return nullptr;
    return flat.data() + graph_.layout().offset_bytes(index) / sizeof(float);
  }

  const ModelGraph graph_;
  const Options options_;
  std::vector<float> parameters_;
  std::vector<float> gradients_;
  std::vector<float> outputs_;
  std::vector<double> wide_parameters_;
  std::vector<double> wide_gradients_;
  // Of each value: the model's input, then what each layer puts out.
  std::vector<std::vector<double>> activations_;
  std::vector<std::vector<double>> activation_gradients_;
  std::vector<double> contribution_;  // of one reader
};

}  // namespace

absl::StatusOr<std::unique_ptr<Network>> NewReferenceNetwork(
    const ModelGraph& graph, const Network::Options& options) {
  ABSL_RETURN_IF_ERROR(CheckOptions(graph, options));
  return std::make_unique<ReferenceNetwork>(graph, options);
}

}  // namespace koinon::kernels
