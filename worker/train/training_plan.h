#ifndef KOINON_WORKER_TRAIN_TRAINING_PLAN_H_
#define KOINON_WORKER_TRAIN_TRAINING_PLAN_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"
#include "proto/job.pb.h"

namespace koinon::worker {

// How much one task trains. A value.
struct TrainingPlan {
  // The spec's batch size, or all examples if there are fewer.
  size_t batch_size = 0;
  int64_t steps_per_epoch = 0;  // the last batch of an epoch may be smaller
  int64_t steps = 0;            // at least 1

  // More steps are refused: no task of sense has them.
  static constexpr int64_t kMaxSteps = int64_t{1} << 40;
};

// From the spec's epochs (a part of an epoch is rounded up to whole steps) or
// steps. INVALID_ARGUMENT, naming the field: both given, negative, not finite,
// or over kMaxSteps. Requires examples > 0.
absl::StatusOr<TrainingPlan> PlanTraining(const v1::TrainingSpec& spec,
                                          size_t examples);

}  // namespace koinon::worker

#endif  // KOINON_WORKER_TRAIN_TRAINING_PLAN_H_
