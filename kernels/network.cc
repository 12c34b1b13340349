#include "kernels/network.h"

#include <string>

#include "absl/strings/str_format.h"
#include "base/status_macros.h"

namespace koinon::kernels {
namespace {

// "example 3", "example 3, position 7"
std::string PlaceText(size_t index, size_t positions) {
  return positions == 1 ? absl::StrFormat("example %d", index)
                        : absl::StrFormat("example %d, position %d",
                                          index / positions, index % positions);
}

// labels: [B, positions]
absl::Status CheckLabels(absl::Span<const int32_t> labels, size_t positions,
                         int64_t output_size) {
  for (size_t i = 0; i < labels.size(); ++i) {
    if (labels[i] >= 0 && labels[i] < output_size) continue;
    return absl::InvalidArgumentError(
        absl::StrFormat("batch: %s: expected a label from 0 to %d, found %d",
                        PlaceText(i, positions), output_size - 1, labels[i]));
  }
  return absl::OkStatus();
}

// tokens: [B, positions]
absl::Status CheckTokens(absl::Span<const float> tokens, size_t positions,
                         int64_t vocabulary) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    const float token = tokens[i];
    // In this order, so that the conversion is defined. NaN fails the first.
    if (token >= 0 && token < static_cast<float>(vocabulary) &&
        static_cast<float>(static_cast<int32_t>(token)) == token) {
      continue;
    }
    return absl::InvalidArgumentError(absl::StrFormat(
        "batch: %s: expected a token, a whole number from 0 to %d, found %g",
        PlaceText(i, positions), vocabulary - 1, token));
  }
  return absl::OkStatus();
}

absl::Status CheckCount(const char* what, size_t expected, size_t found) {
  if (expected == found) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "batch: expected %d %s, found %d", expected, what, found));
}

bool IsKnownLoss(v1::TrainingSpec::Loss loss) {
  return loss == v1::TrainingSpec::LOSS_UNSPECIFIED ||
         loss == v1::TrainingSpec::SOFTMAX_CROSS_ENTROPY ||
         loss == v1::TrainingSpec::MEAN_SQUARED_ERROR;
}

}  // namespace

absl::Status CheckOptions(const ModelGraph& graph,
                          const Network::Options& options) {
  if (options.batch_size < 1 || options.batch_size > kMaxBatchSize) {
    return absl::InvalidArgumentError(
        absl::StrFormat("batch_size: expected 1 to %d, found %d", kMaxBatchSize,
                        options.batch_size));
  }
  if (options.threads < 1 || options.threads > kMaxThreads) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "threads: expected 1 to %d, found %d", kMaxThreads, options.threads));
  }
  if (!IsKnownLoss(options.loss)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("loss: expected SOFTMAX_CROSS_ENTROPY or "
                        "MEAN_SQUARED_ERROR, found %d",
                        static_cast<int>(options.loss)));
  }
  if (options.loss == v1::TrainingSpec::MEAN_SQUARED_ERROR &&
      graph.output_positions() > 1) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "loss: MEAN_SQUARED_ERROR takes one output for each example, found a "
        "model with outputs at %d positions",
        graph.output_positions()));
  }
  return absl::OkStatus();
}

absl::Status CheckBatch(const ModelGraph& graph,
                        const Network::Options& options, const Batch& batch) {
  if (batch.size < 1 || batch.size > options.batch_size) {
    return absl::InvalidArgumentError(
        absl::StrFormat("batch: expected 1 to %d examples, found %d",
                        options.batch_size, batch.size));
  }
  const auto input_size = static_cast<size_t>(graph.input_size());
  ABSL_RETURN_IF_ERROR(
      CheckCount("input values", batch.size * input_size, batch.inputs.size()));
  if (graph.vocabulary() > 0) {
    ABSL_RETURN_IF_ERROR(
        CheckTokens(batch.inputs, input_size, graph.vocabulary()));
  }
  if (options.loss == v1::TrainingSpec::MEAN_SQUARED_ERROR) {
    return CheckCount("target values",
                      batch.size * static_cast<size_t>(graph.output_size()),
                      batch.targets.size());
  }
  const auto positions = static_cast<size_t>(graph.output_positions());
  ABSL_RETURN_IF_ERROR(
      CheckCount("labels", batch.size * positions, batch.labels.size()));
  return CheckLabels(batch.labels, positions, graph.output_size());
}

Batch RowsOf(const ModelGraph& graph, const Batch& batch) {
  Batch rows = batch;
  rows.size *= static_cast<size_t>(graph.output_positions());
  return rows;
}

}  // namespace koinon::kernels
