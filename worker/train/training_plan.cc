#include "worker/train/training_plan.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_format.h"

namespace koinon::worker {
namespace {

constexpr int64_t kDefaultBatchSize = 32;
constexpr double kDefaultEpochs = 1;

absl::Status CheckSpec(const v1::TrainingSpec& spec) {
  if (spec.batch_size() < 0 || spec.steps() < 0 || !(spec.epochs() >= 0) ||
      !std::isfinite(spec.epochs())) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "training: expected batch_size, steps and epochs >= 0, found %d, %d "
        "and %g",
        spec.batch_size(), spec.steps(), spec.epochs()));
  }
  if (spec.steps() > 0 && spec.epochs() > 0) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "training: expected epochs or steps, found both (%g and %d)",
        spec.epochs(), spec.steps()));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TrainingPlan> PlanTraining(const v1::TrainingSpec& spec,
                                          size_t examples) {
  if (absl::Status status = CheckSpec(spec); !status.ok()) return status;
  const int64_t batch_size =
      spec.batch_size() == 0 ? kDefaultBatchSize : spec.batch_size();
  TrainingPlan plan;
  plan.batch_size = std::min<size_t>(batch_size, examples);
  plan.steps_per_epoch = (examples + plan.batch_size - 1) / plan.batch_size;
  const double epochs = spec.epochs() == 0 ? kDefaultEpochs : spec.epochs();
  const double steps = spec.steps() > 0
                           ? spec.steps()
                           : std::ceil(epochs * plan.steps_per_epoch);
  if (steps > TrainingPlan::kMaxSteps) {
    return absl::InvalidArgumentError(
        absl::StrFormat("training: expected at most %d steps, found %g",
                        TrainingPlan::kMaxSteps, steps));
  }
  plan.steps = static_cast<int64_t>(steps);
  return plan;
}

}  // namespace koinon::worker
