#ifndef KOINON_WORKER_SETTLEMENT_H_
#define KOINON_WORKER_SETTLEMENT_H_

#include <vector>

#include "absl/status/status.h"
#include "base/ids.h"
#include "worker/store/control_store.h"
#include "worker/store/update_store.h"

namespace koinon::worker {

// Takes a kept update off the disk; a failure is logged, as nothing waits for
// it.
void RemoveUpdate(UpdateStore* updates, const TaskId& task);

// Updates that a version holds, but whose share in a control variate (SCAFFOLD)
// could not be written yet. They stay on disk until then: after a crash, the
// coordinator says again that they are included. At most as many as are kept.
//
// Belongs to the thread that trains, where control variates are read.
class Settlement {
 public:
  // `controls` may be null as long as nothing is added. Both must outlive it.
  Settlement(ControlStore* controls, UpdateStore* updates)
      : controls_(controls), updates_(updates) {}

  void Add(const TaskId& task) { settled_.push_back(task); }
  // Brings the job's control variate up to date. Anything but OK: it is not,
  // and may be tried again.
  absl::Status Include(const JobId& job);

 private:
  ControlStore* const controls_;
  UpdateStore* const updates_;
  std::vector<TaskId> settled_;
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_SETTLEMENT_H_
