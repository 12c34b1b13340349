#ifndef KOINON_WORKER_TRAIN_CHECKPOINT_H_
#define KOINON_WORKER_TRAIN_CHECKPOINT_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/env.h"
#include "base/model_layout.h"
#include "kernels/optimizer.h"
#include "worker/train/training_totals.h"

namespace koinon::worker {

// Where a training stands, beside its parameters and its optimizer's values.
struct TrainingState {
  // Of what is trained on what: a checkpoint of something else is refused.
  std::string fingerprint;
  int64_t step = 0;             // made so far, by the run
  double rates = 0;             // sum of their learning rates
  double seconds = 0;           // that they took
  TrainingTotals since_report;  // measured and not yet reported
};

// INTERNAL that names the first of the values [layout's elements] that is not
// finite: what a training that diverged leaves.
absl::Status CheckFinite(const ModelLayout& layout,
                         absl::Span<const float> values);

// Leaves parameters [layout's elements], the optimizer's state and `state` in a
// file (docs/formats/checkpoint.md): atomic and durable, so that after a kill
// at any time the file is the one before or the one after. Copies nothing.
// INTERNAL for parameters that are not finite; otherwise what the file system
// says. The file is what it was then.
absl::Status WriteCheckpoint(Env* env, const std::string& path,
                             const ModelLayout& layout,
                             const TrainingState& state,
                             absl::Span<const float> parameters,
                             kernels::LocalOptimizer* optimizer);

// The reverse, into parameters and the optimizer. NOT_FOUND without such a
// file; FAILED_PRECONDITION for one of another training (`fingerprint`), or of
// another optimizer; INVALID_ARGUMENT for a file that is no checkpoint (says
// what was expected and found); DATA_LOSS for one whose content is not what was
// written, or not finite; RESOURCE_EXHAUSTED over `max_bytes`. After a failure
// the parameters and the optimizer are as before.
absl::StatusOr<TrainingState> ReadCheckpoint(
    Env* env, const std::string& path, const ModelLayout& layout,
    const std::string& fingerprint, uint64_t max_bytes,
    absl::Span<float> parameters, kernels::LocalOptimizer* optimizer);

}  // namespace koinon::worker

#endif  // KOINON_WORKER_TRAIN_CHECKPOINT_H_
