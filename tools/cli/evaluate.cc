#include "tools/cli/evaluate.h"

#include <algorithm>
#include <atomic>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/safetensors.h"
#include "base/status_macros.h"
#include "kernels/bfloat16.h"
#include "kernels/graph/control_variates.h"
#include "kernels/graph/model_graph.h"
#include "kernels/network.h"
#include "kernels/onednn/onednn_network.h"
#include "worker/data/dataset.h"
#include "worker/train/evaluation.h"
#include "worker/train/model_fit.h"
#include "worker/train/precision.h"

namespace koinon::cli {
namespace {

constexpr size_t kMaxBatchSize = 256;
// Of what the layers put out for one batch.
constexpr double kBatchBytes = 256 << 20;

absl::Status CheckLayout(const std::string& path, const ModelLayout& found,
                         const ModelLayout& expected) {
  if (found.hash() == expected.hash()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      path, ": ", found.tensors().size(), " tensors of ",
      found.total_elements(), " values with layout ", found.hash().ToShortHex(),
      "; the job's model has ", expected.tensors().size(), " tensors of ",
      expected.total_elements(), " values with layout ",
      expected.hash().ToShortHex()));
}

// As many examples as memory is fine with.
size_t BatchSize(const kernels::ModelGraph& graph, size_t examples) {
  double outputs = 0;
  for (const auto& layer : graph.layers()) {
    double extent = 1;
    for (int64_t e : layer.output_shape) extent *= static_cast<double>(e);
    outputs += extent;
  }
  const double fitting = kBatchBytes / (outputs * sizeof(float));
  const size_t size = std::clamp<size_t>(
      static_cast<size_t>(std::min<double>(fitting, kMaxBatchSize)), 1,
      kMaxBatchSize);
  return std::min(size, examples);
}

v1::TrainingSpec::Loss LossFor(const v1::JobSpec& job,
                               const worker::Dataset& data) {
  if (job.training().loss() != v1::TrainingSpec::LOSS_UNSPECIFIED) {
    return job.training().loss();
  }
  return data.target_size > 0 ? v1::TrainingSpec::MEAN_SQUARED_ERROR
                              : v1::TrainingSpec::SOFTMAX_CROSS_ENTROPY;
}

// What of `dataset` is to be measured.
absl::StatusOr<worker::Dataset> LoadExamples(Env* env,
                                             worker::DatasetConfig config,
                                             bool held_out) {
  if (!held_out) {
    config.clear_held_out_source();
    config.set_held_out_fraction(0);
  }
  ABSL_ASSIGN_OR_RETURN(worker::LocalData local,
                        worker::LoadLocalData(env, config));
  if (local.external) {
    return absl::InvalidArgumentError(absl::StrCat(
        "dataset ", config.name(), ": only an external trainer reads it"));
  }
  worker::Dataset& data = held_out ? local.held_out : local.train;
  if (!data.empty()) return std::move(data);
  return absl::FailedPreconditionError(
      absl::StrCat("dataset ", config.name(), " has no ",
                   held_out ? "held-out part" : "examples"));
}

absl::StatusOr<v1::Metrics> Measure(const worker::Dataset& data,
                                    const kernels::Network::Options& made_with,
                                    int64_t max_examples,
                                    kernels::Network* network) {
  const auto batch = static_cast<int64_t>(made_with.batch_size);
  const size_t max_batches =
      max_examples == 0
          ? std::numeric_limits<size_t>::max()
          : static_cast<size_t>(std::max<int64_t>(1, max_examples / batch));
  const absl::Time start = absl::Now();
  const std::atomic<bool> never{false};
  ABSL_ASSIGN_OR_RETURN(const worker::TrainingTotals totals,
                        worker::EvaluateDataset(data, made_with.batch_size,
                                                network, never, max_batches));
  v1::Metrics metrics;
  metrics.set_examples(totals.examples);
  metrics.set_loss(totals.MeanLoss());
  metrics.set_has_accuracy(worker::HasClasses(made_with.loss));
  if (metrics.has_accuracy()) metrics.set_accuracy(totals.Accuracy());
  metrics.set_seconds(absl::ToDoubleSeconds(absl::Now() - start));
  metrics.set_steps((totals.examples + batch - 1) / batch);
  metrics.set_bfloat16(made_with.bfloat16);
  return metrics;
}

}  // namespace

absl::StatusOr<v1::Metrics> EvaluateModel(Env* env,
                                          const std::string& model_path,
                                          const v1::JobSpec& job,
                                          worker::DatasetConfig dataset,
                                          const EvaluateOptions& options) {
  ABSL_ASSIGN_OR_RETURN(const worker::Dataset data,
                        LoadExamples(env, dataset, options.held_out));
  ABSL_ASSIGN_OR_RETURN(const kernels::ModelGraph graph,
                        kernels::ModelGraph::Build(job.model()));
  kernels::Network::Options made_with;
  made_with.threads = options.threads;
  made_with.training = false;
  made_with.loss = LossFor(job, data);
  ABSL_ASSIGN_OR_RETURN(
      made_with.bfloat16,
      worker::UsesBfloat16(job.training(), kernels::HasBfloat16()));
  ABSL_RETURN_IF_ERROR(worker::CheckModelFit(graph, made_with.loss, data));
  made_with.batch_size = BatchSize(
      graph, options.max_examples == 0
                 ? data.size()
                 : std::min<size_t>(data.size(), options.max_examples));
  ABSL_RETURN_IF_ERROR(worker::CheckModelMemory(graph, made_with.batch_size,
                                                options.max_model_bytes));
  ABSL_ASSIGN_OR_RETURN(const Model model,
                        ReadModel(env, model_path, options.max_model_bytes));
  // A version of a SCAFFOLD job: control variates follow the model.
  const ModelLayout found =
      kernels::WithoutControlVariates(model.layout).value_or(model.layout);
  ABSL_RETURN_IF_ERROR(CheckLayout(model_path, found, graph.layout()));
  ABSL_ASSIGN_OR_RETURN(const auto network,
                        kernels::NewOneDnnNetwork(graph, made_with));
  std::copy_n(model.values.begin(), graph.layout().total_elements(),
              network->parameters().begin());
  return Measure(data, made_with, options.max_examples, network.get());
}

}  // namespace koinon::cli
