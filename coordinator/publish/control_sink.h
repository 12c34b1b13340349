#ifndef KOINON_COORDINATOR_PUBLISH_CONTROL_SINK_H_
#define KOINON_COORDINATOR_PUBLISH_CONTROL_SINK_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "aggregation/core/aggregator.h"
#include "proto/job.pb.h"

namespace koinon::coordinator {

// The server's side of SCAFFOLD (Karimireddy et al. 2020): the mean of updates
// whose first half is the model's goes on to `next`, the second half, the
// control variates', times |S| / N. Added to the base that gives
//
//   x <- x + mean over S of (y - x)
//   c <- c + |S| / N mean over S of (c_i+ - c_i)
//
// Not thread-safe. `next` must outlive it.
class ControlSink final : public aggregation::UpdateSink {
 public:
  // Scales elements from `first_control` on. share: (0, 1].
  ControlSink(size_t first_control, double share,
              aggregation::UpdateSink* next);

  float* Window(size_t offset, size_t count) override;
  absl::Status Commit(size_t offset, size_t count) override;

 private:
  const size_t first_control_;
  const double share_;
  aggregation::UpdateSink* const next_;
  float* window_ = nullptr;
};

// |S| / N for a round of `updates` (|S|) from a cohort of `cohort` workers: N
// is training.scaffold.population, or without one the cohort, which is
// everybody then. FAILED_PRECONDITION if there are more updates than workers.
absl::StatusOr<double> ControlShare(const v1::JobSpec& spec, int64_t updates,
                                    int64_t cohort);

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_PUBLISH_CONTROL_SINK_H_
