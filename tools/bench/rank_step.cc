#include "tools/bench/rank_step.h"

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "base/random.h"
#include "base/status_macros.h"
#include "kernels/onednn/onednn_network.h"
#include "kernels/train_bench.h"

namespace koinon::bench {

absl::StatusOr<std::unique_ptr<RankStep>> RankStep::Create(
    const std::string& name, const Options& options) {
  ABSL_ASSIGN_OR_RETURN(kernels::TrainBenchModel model,
                        kernels::FindTrainBenchModel(name));
  if (!model.training) {
    return absl::InvalidArgumentError(
        absl::StrCat("model ", name, ": is measured forward only"));
  }
  auto step = absl::WrapUnique(new RankStep);
  ABSL_ASSIGN_OR_RETURN(
      step->network_,
      kernels::NewOneDnnNetwork(model.graph, {.batch_size = options.batch_size,
                                              .threads = 1,
                                              .bfloat16 = options.bfloat16}));
  model.graph.InitializeParameters(1, 0, step->network_->parameters());
  ABSL_ASSIGN_OR_RETURN(
      step->optimizer_,
      kernels::LocalOptimizer::Create(model.optimizer,
                                      step->network_->parameters().size()));
  step->Draw(model.graph, options.batch_size);
  return step;
}

void RankStep::Draw(const kernels::ModelGraph& graph, size_t batch) {
  Random random(1);
  const auto vocabulary = static_cast<uint64_t>(graph.vocabulary());
  inputs_.resize(batch * static_cast<size_t>(graph.input_size()));
  for (float& input : inputs_) {
    input = vocabulary > 0 ? static_cast<float>(random.NextBelow(vocabulary))
                           : static_cast<float>(random.NextNormal());
  }
  labels_.resize(batch * static_cast<size_t>(graph.output_positions()));
  for (int32_t& label : labels_) {
    label = static_cast<int32_t>(
        random.NextBelow(static_cast<uint64_t>(graph.output_size())));
  }
  batch_.size = batch;
  batch_.inputs = inputs_;
  batch_.labels = labels_;
}

absl::Status RankStep::Alone() {
  ABSL_RETURN_IF_ERROR(network_->ForwardBackward(batch_, 1).status());
  optimizer_->Step(1, network_->gradients(), network_->parameters());
  return absl::OkStatus();
}

absl::Status RankStep::Together(worker::GradientExchange* exchange,
                                double weight) {
  exchange->Start(0, weight, network_->gradients());
  const auto metrics = network_->ForwardBackward(
      batch_, 1,
      [&](size_t begin, size_t end) { exchange->Ready(begin, end); });
  ABSL_RETURN_IF_ERROR(exchange->Finish(metrics.status()));
  optimizer_->Step(1, network_->gradients(), network_->parameters());
  return absl::OkStatus();
}

int64_t RankStep::gradient_bytes() const {
  return static_cast<int64_t>(network_->gradients().size() * sizeof(float));
}

}  // namespace koinon::bench
