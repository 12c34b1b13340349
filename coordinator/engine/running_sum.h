#ifndef KOINON_COORDINATOR_ENGINE_RUNNING_SUM_H_
#define KOINON_COORDINATOR_ENGINE_RUNNING_SUM_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "absl/time/time.h"
#include "aggregation/core/fixed_point.h"
#include "coordinator/journal/journal.h"
#include "coordinator/spool/spool.h"
#include "coordinator/uploads/upload_desk.h"
#include "proto/worker.pb.h"

namespace koinon::coordinator {

// The running sum of a job whose updates are added on arrival, as the engine's
// thread holds it. Two extents of the spool take turns: the journalled sum lies
// in one, the next is written to the other. Not thread-safe.
struct RunningSum {
  // A whole update on its way into the sum, with those who wait to hear of it:
  // several streams may have found it whole.
  struct Waiting {
    std::shared_ptr<Upload> upload;  // second owner: the desk, until it is in
    std::vector<std::function<void(v1::PushUpdateReply)>> replies;
  };

  aggregation::FixedPoint format;
  // Of the round being run; its accepted updates are exactly those in the sum.
  std::optional<FoldRow> row;
  // The row comes from an earlier process.
  bool check_digest = false;
  // Extents taken from the spool that no sum lies in.
  std::vector<SpoolExtent> spares;
  // Extents of earlier sums that the journal names until the next commit.
  size_t retiring = 0;
  std::deque<Waiting> waiting;
  std::vector<Waiting> folding;  // by the fold that runs
  bool running = false;
  // Counts how often the sum was begun anew: a fold that began before is void.
  int64_t generation = 0;
  // After a fold for which there was no room.
  absl::Time retry_at = absl::InfinitePast();
};

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_ENGINE_RUNNING_SUM_H_
