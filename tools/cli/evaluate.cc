#include "tools/cli/evaluate.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/safetensors.h"
#include "base/status_macros.h"
#include "kernels/graph/control_variates.h"
#include "kernels/graph/model_graph.h"
#include "kernels/network.h"
#include "kernels/onednn/onednn_network.h"
#include "worker/data/dataset.h"

namespace koinon::cli {
namespace {

constexpr size_t kBatchSize = 256;

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

absl::Status CheckData(const worker::Dataset& data,
                       const kernels::ModelGraph& graph) {
  const bool fits =
      data.example_size() == static_cast<size_t>(graph.input_size()) &&
      (data.target_size == 0 ||
       data.target_size == static_cast<size_t>(graph.output_size()));
  if (fits) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "dataset ", data.name, ": examples of [", absl::StrJoin(data.shape, ", "),
      "] and ", data.target_size, " targets; the model takes [",
      absl::StrJoin(graph.input_shape(), ", "), "] and gives ",
      graph.output_size()));
}

// Examples [begin, begin + size) of `data`.
kernels::Batch BatchOf(const worker::Dataset& data, size_t begin, size_t size) {
  const size_t width = data.example_size();
  kernels::Batch batch;
  batch.size = size;
  batch.inputs =
      absl::MakeConstSpan(data.features).subspan(begin * width, size * width);
  if (data.target_size > 0) {
    batch.targets =
        absl::MakeConstSpan(data.targets)
            .subspan(begin * data.target_size, size * data.target_size);
  } else {
    batch.labels = absl::MakeConstSpan(data.labels).subspan(begin, size);
  }
  return batch;
}

absl::StatusOr<v1::Metrics> EvaluateAll(kernels::Network* network,
                                        const worker::Dataset& data) {
  const absl::Time start = absl::Now();
  v1::Metrics metrics;
  double loss = 0;
  int64_t correct = 0;
  for (size_t begin = 0; begin < data.size(); begin += kBatchSize) {
    const size_t size = std::min(kBatchSize, data.size() - begin);
    ABSL_ASSIGN_OR_RETURN(const kernels::BatchMetrics batch,
                          network->Evaluate(BatchOf(data, begin, size)));
    loss += batch.loss * static_cast<double>(size);
    correct += batch.correct;
    metrics.set_steps(metrics.steps() + 1);
  }
  const auto examples = static_cast<double>(data.size());
  metrics.set_examples(static_cast<int64_t>(data.size()));
  metrics.set_loss(loss / examples);
  metrics.set_has_accuracy(data.target_size == 0);
  if (metrics.has_accuracy()) {
    metrics.set_accuracy(static_cast<double>(correct) / examples);
  }
  metrics.set_seconds(absl::ToDoubleSeconds(absl::Now() - start));
  return metrics;
}

}  // namespace

absl::StatusOr<v1::Metrics> EvaluateModel(
    Env* env, const std::string& model_path, const v1::JobSpec& job,
    worker::DatasetConfig dataset, int threads, uint64_t max_model_bytes) {
  // All examples of the source are to be measured.
  dataset.clear_held_out_source();
  dataset.set_held_out_fraction(0);
  ABSL_ASSIGN_OR_RETURN(const worker::LocalData local,
                        worker::LoadLocalData(env, dataset));
  const worker::Dataset& data = local.train;
  if (data.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("dataset ", dataset.name(), " has no examples"));
  }
  ABSL_ASSIGN_OR_RETURN(const kernels::ModelGraph graph,
                        kernels::ModelGraph::Build(job.model()));
  ABSL_RETURN_IF_ERROR(CheckData(data, graph));
  ABSL_ASSIGN_OR_RETURN(const Model model,
                        ReadModel(env, model_path, max_model_bytes));
  // A version of a SCAFFOLD job: control variates follow the model.
  const ModelLayout found =
      kernels::WithoutControlVariates(model.layout).value_or(model.layout);
  ABSL_RETURN_IF_ERROR(CheckLayout(model_path, found, graph.layout()));
  kernels::Network::Options options;
  options.batch_size = std::min(kBatchSize, data.size());
  options.threads = threads;
  options.training = false;
  options.loss = data.target_size > 0 ? v1::TrainingSpec::MEAN_SQUARED_ERROR
                                      : v1::TrainingSpec::SOFTMAX_CROSS_ENTROPY;
  ABSL_ASSIGN_OR_RETURN(const auto network,
                        kernels::NewOneDnnNetwork(graph, options));
  std::copy_n(model.values.begin(), graph.layout().total_elements(),
              network->parameters().begin());
  return EvaluateAll(network.get(), data);
}

}  // namespace koinon::cli
