#include "worker/train/model_fit.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"

namespace koinon::worker {
namespace {

std::string FormatExtents(const std::vector<int64_t>& shape) {
  return absl::StrFormat("[%s]", absl::StrJoin(shape, ", "));
}

// A flat model takes any example with as many features; every other model
// wants its own shape.
absl::Status CheckShape(const kernels::ModelGraph& graph, const Dataset& data) {
  const bool flat = graph.input_shape().size() == 1;
  if (graph.input_shape() == data.shape ||
      (flat &&
       graph.input_size() == static_cast<int64_t>(data.example_size()))) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrFormat(
      "dataset %s: expected examples of shape %s, as the model has it, found "
      "%s",
      data.name, FormatExtents(graph.input_shape()),
      FormatExtents(data.shape)));
}

absl::Status CheckPositions(const kernels::ModelGraph& graph,
                            const Dataset& data) {
  const auto positions = static_cast<int64_t>(data.positions());
  if (positions == graph.output_positions()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "dataset %s: expected a class at %d positions of each example, as the "
      "model has outputs, found %d%s",
      data.name, graph.output_positions(), positions,
      data.is_sequences() ? "" : " (it has no sequences)"));
}

// Tokens that nobody has looked at are checked batch by batch.
absl::Status CheckVocabulary(const kernels::ModelGraph& graph,
                             const Dataset& data) {
  const int64_t known = std::min(graph.vocabulary(), graph.output_size());
  if (data.windows.vocabulary <= known) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "dataset %s: expected a vocabulary of at most %d tokens, as the model "
      "has, found %d",
      data.name, known, data.windows.vocabulary));
}

absl::Status CheckClasses(const kernels::ModelGraph& graph,
                          const Dataset& data) {
  if (data.target_size != 0) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "dataset %s: expected classes for SOFTMAX_CROSS_ENTROPY, found values "
        "(regression)",
        data.name));
  }
  ABSL_RETURN_IF_ERROR(CheckPositions(graph, data));
  if (data.is_sequences()) return CheckVocabulary(graph, data);
  const int32_t largest =
      *std::max_element(data.labels.begin(), data.labels.end());
  if (largest < graph.output_size()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "dataset %s: expected classes below %d, as the model has them, found %d",
      data.name, graph.output_size(), largest));
}

absl::Status CheckTargets(const kernels::ModelGraph& graph,
                          const Dataset& data) {
  if (static_cast<int64_t>(data.target_size) == graph.output_size()) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrFormat(
      "dataset %s: expected %d values to predict for each example "
      "(MEAN_SQUARED_ERROR), found %s",
      data.name, graph.output_size(),
      data.target_size == 0 ? "classes" : absl::StrCat(data.target_size)));
}

}  // namespace

v1::TrainingSpec::Loss LossOf(const v1::TrainingSpec& spec) {
  return spec.loss() == v1::TrainingSpec::LOSS_UNSPECIFIED
             ? v1::TrainingSpec::SOFTMAX_CROSS_ENTROPY
             : spec.loss();
}

bool HasClasses(v1::TrainingSpec::Loss loss) {
  return loss == v1::TrainingSpec::SOFTMAX_CROSS_ENTROPY;
}

absl::Status CheckModelFit(const kernels::ModelGraph& graph,
                           v1::TrainingSpec::Loss loss, const Dataset& data) {
  ABSL_RETURN_IF_ERROR(CheckShape(graph, data));
  switch (loss) {
    case v1::TrainingSpec::SOFTMAX_CROSS_ENTROPY:
      return CheckClasses(graph, data);
    case v1::TrainingSpec::MEAN_SQUARED_ERROR:
      return CheckTargets(graph, data);
    default:
      return absl::InvalidArgumentError(
          absl::StrFormat("training.loss: expected SOFTMAX_CROSS_ENTROPY or "
                          "MEAN_SQUARED_ERROR, found %d",
                          static_cast<int>(loss)));
  }
}

absl::Status CheckModelMemory(const kernels::ModelGraph& graph,
                              size_t batch_size, uint64_t max_bytes) {
  double outputs = 0;  // a double does not overflow
  for (const auto& layer : graph.layers()) {
    double extent = 1;
    for (int64_t e : layer.output_shape) extent *= static_cast<double>(e);
    outputs += extent;
  }
  const double output_bytes = outputs * batch_size * sizeof(float);
  if (graph.layout().total_bytes() <= max_bytes && output_bytes <= max_bytes) {
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(absl::StrFormat(
      "expected at most %d bytes of parameters and of layers' outputs for %d "
      "examples, found %d and %.0f",
      max_bytes, batch_size, graph.layout().total_bytes(), output_bytes));
}

}  // namespace koinon::worker
