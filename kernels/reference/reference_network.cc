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

using reference::DropoutState;
using reference::ElementCount;
using reference::LayerTensors;

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
    for (const auto& values : activations_) {
      activation_gradients_.emplace_back(values.size());
    }
  }

  absl::Span<float> parameters() override {
    return absl::MakeSpan(parameters_);
  }
  absl::Span<float> gradients() override { return absl::MakeSpan(gradients_); }
  absl::Span<const float> outputs() const override { return outputs_; }

  absl::StatusOr<BatchMetrics> Evaluate(const Batch& batch) override {
    ABSL_RETURN_IF_ERROR(Check(batch));
    Forward(batch, /*dropout=*/false, 0);
    return ComputeLoss<double>(options_.loss, batch, graph_.output_size(),
                               activations_.back().data(), nullptr);
  }

  absl::StatusOr<BatchMetrics> ForwardBackward(const Batch& batch,
                                               uint64_t step_seed,
                                               GradientsReady ready) override {
    if (!options_.training) {
      return absl::FailedPreconditionError(
          "network: made without `training`, asked for a training step");
    }
    ABSL_RETURN_IF_ERROR(Check(batch));
    Forward(batch, /*dropout=*/true, step_seed);
    const BatchMetrics metrics = ComputeLoss<double>(
        options_.loss, batch, graph_.output_size(), activations_.back().data(),
        activation_gradients_.back().data());
    Backward(batch, step_seed);
    ready(0, gradients_.size());
    return metrics;
  }

 private:
  absl::Status Check(const Batch& batch) const {
    return CheckBatch(options_, graph_.input_size(), graph_.output_size(),
                      batch);
  }

  void Forward(const Batch& batch, bool dropout, uint64_t step_seed) {
    std::copy(parameters_.begin(), parameters_.end(), wide_parameters_.begin());
    std::copy(batch.inputs.begin(), batch.inputs.end(),
              activations_[0].begin());
    for (size_t i = 0; i < graph_.layers().size(); ++i) {
      reference::ForwardLayer(graph_.layers()[i],
                              DropoutState{dropout, DropoutSeed(step_seed, i)},
                              TensorsOf(i, batch.size));
    }
    const size_t count = batch.size * graph_.output_size();
    outputs_.assign(activations_.back().begin(),
                    activations_.back().begin() + count);
  }

  void Backward(const Batch& batch, uint64_t step_seed) {
    std::fill(wide_gradients_.begin(), wide_gradients_.end(), 0.0);
    for (size_t i = graph_.layers().size(); i-- > 0;) {
      LayerTensors tensors = TensorsOf(i, batch.size);
      tensors.input_gradient = activation_gradients_[i].data();
      tensors.output_gradient = activation_gradients_[i + 1].data();
      tensors.weight_gradient =
          Tensor(wide_gradients_, graph_.layers()[i].weight);
      tensors.bias_gradient = Tensor(wide_gradients_, graph_.layers()[i].bias);
      reference::BackwardLayer(graph_.layers()[i],
                               DropoutState{true, DropoutSeed(step_seed, i)},
                               tensors);
    }
    std::copy(wide_gradients_.begin(), wide_gradients_.end(),
              gradients_.begin());
  }

  LayerTensors TensorsOf(size_t i, size_t batch) {
    LayerTensors tensors;
    tensors.batch = batch;
    tensors.weight = Tensor(wide_parameters_, graph_.layers()[i].weight);
    tensors.bias = Tensor(wide_parameters_, graph_.layers()[i].bias);
    tensors.input = activations_[i].data();
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
  // [i]: the input of layer i; the last one is the output.
  std::vector<std::vector<double>> activations_;
  std::vector<std::vector<double>> activation_gradients_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Network>> NewReferenceNetwork(
    const ModelGraph& graph, const Network::Options& options) {
  ABSL_RETURN_IF_ERROR(CheckOptions(options));
  return std::make_unique<ReferenceNetwork>(graph, options);
}

}  // namespace koinon::kernels
