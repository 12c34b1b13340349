#include "worker/settlement.h"

#include <algorithm>
#include <memory>

#include "absl/status/statusor.h"
#include "base/env.h"
#include "base/log.h"

namespace koinon::worker {

void RemoveUpdate(UpdateStore* updates, const TaskId& task) {
  const absl::Status status = updates->Forget(task);
  if (!status.ok()) {
    LogWarning("cannot remove an update",
               {{"task", task.ToString()}, {"reason", status}});
  }
}

absl::Status Settlement::Include(const JobId& job) {
  while (true) {
    const auto next =
        std::find_if(settled_.begin(), settled_.end(),
                     [&](const TaskId& task) { return task.job == job; });
    if (next == settled_.end()) return absl::OkStatus();
    absl::StatusOr<std::unique_ptr<File>> update = updates_->OpenUpdate(*next);
    const absl::Status included =
        update.ok() ? controls_->Include(*next, **update) : update.status();
    if (!included.ok()) {
      LogError("a control variate could not be brought up to date",
               {{"task", next->ToString()}, {"reason", included}});
      // What is gone, or of another job, stays so.
      const bool for_good =
          absl::IsNotFound(included) || absl::IsFailedPrecondition(included);
      if (!for_good) return included;
    }
    RemoveUpdate(updates_, *next);
    settled_.erase(next);
  }
}

}  // namespace koinon::worker
