#ifndef KOINON_COORDINATOR_PUBLISH_CONTROL_SINK_H_
#define KOINON_COORDINATOR_PUBLISH_CONTROL_SINK_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "aggregation/core/aggregator.h"
#include "aggregation/core/update_set.h"
#include "proto/job.pb.h"

namespace koinon::coordinator {

// How the server's control variate, the mean over N workers, moves.
struct ControlStep {
  // N before / N: what is left of the mean when N has grown by workers whose
  // own is zero. (0, 1]; 1: N is what it was, or all are zero.
  double kept = 1;
  double share = 1;  // |S| / N, in (0, 1]
};

// The server's side of SCAFFOLD (Karimireddy et al. 2020): the mean of updates
// whose first half is the model's goes on to `next`, with the second half, the
// control variates', made such that added to the base it gives
//
//   x <- x + mean over S of (y - x)
//   c <- kept c + share mean over S of (c_i+ - c_i)
//
// Not thread-safe. `base`, in the shape of the updates, and `next` must outlive
// it.
class ControlSink final : public aggregation::UpdateSink {
 public:
  // Elements from `first_control` on are control variates.
  ControlSink(size_t first_control, ControlStep step,
              const aggregation::UpdateSource* base,
              aggregation::UpdateSink* next);

  float* Window(size_t offset, size_t count) override;
  absl::Status Commit(size_t offset, size_t count) override;

 private:
  const size_t first_control_;
  const ControlStep step_;
  const aggregation::UpdateSource* const base_;
  aggregation::UpdateSink* const next_;
  float* window_ = nullptr;
  std::vector<float> scratch_;
};

// The step of a round of `updates` (|S|). N is training.scaffold.population, or
// without one all `asked` that were in a cohort so far, `asked_before` of them
// before this round. FAILED_PRECONDITION if there are more updates than
// workers.
absl::StatusOr<ControlStep> ControlStepOf(const v1::JobSpec& spec,
                                          int64_t updates, int64_t asked,
                                          int64_t asked_before);

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_PUBLISH_CONTROL_SINK_H_
