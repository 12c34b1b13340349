#include "kernels/network.h"

#include "absl/strings/str_format.h"
#include "base/status_macros.h"

namespace koinon::kernels {
namespace {

absl::Status CheckLabels(absl::Span<const int32_t> labels,
                         int64_t output_size) {
  for (size_t i = 0; i < labels.size(); ++i) {
    if (labels[i] >= 0 && labels[i] < output_size) continue;
    return absl::InvalidArgumentError(absl::StrFormat(
        "batch: example %d: expected a label from 0 to %d, found %d", i,
        output_size - 1, labels[i]));
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

absl::Status CheckOptions(const Network::Options& options) {
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
  return absl::OkStatus();
}

absl::Status CheckBatch(const Network::Options& options, int64_t input_size,
                        int64_t output_size, const Batch& batch) {
  if (batch.size < 1 || batch.size > options.batch_size) {
    return absl::InvalidArgumentError(
        absl::StrFormat("batch: expected 1 to %d examples, found %d",
                        options.batch_size, batch.size));
  }
  const size_t inputs = batch.size * static_cast<size_t>(input_size);
  ABSL_RETURN_IF_ERROR(CheckCount("input values", inputs, batch.inputs.size()));
  if (options.loss == v1::TrainingSpec::MEAN_SQUARED_ERROR) {
    return CheckCount("target values",
                      batch.size * static_cast<size_t>(output_size),
                      batch.targets.size());
  }
  ABSL_RETURN_IF_ERROR(CheckCount("labels", batch.size, batch.labels.size()));
  return CheckLabels(batch.labels, output_size);
}

}  // namespace koinon::kernels
