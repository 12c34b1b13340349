#include "worker/session/actions.h"

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace koinon::worker {

absl::StatusOr<TaskId> TaskIdFromRef(const v1::TaskRef& ref) {
  ABSL_RETURN_IF_ERROR(ValidateId("job name", ref.job()));
  TaskId task;
  task.job = ref.job();
  task.round = ref.round();
  switch (ref.kind()) {
    case v1::TaskRef::TRAIN:
      task.kind = TaskId::Kind::kTrain;
      break;
    case v1::TaskRef::EVALUATE:
      task.kind = TaskId::Kind::kEvaluate;
      break;
    default:
      return absl::InvalidArgumentError(absl::StrCat(
          "task of job ", ref.job(), ", round ", ref.round(), ": unknown kind ",
          ref.kind(), "; known: TRAIN (1), EVALUATE (2)"));
  }
  if (task.round < (task.kind == TaskId::Kind::kTrain ? 1 : 0)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "task of job ", ref.job(), ": impossible round ", ref.round()));
  }
  return task;
}

v1::TaskRef RefFromTaskId(const TaskId& task) {
  v1::TaskRef ref;
  ref.set_job(task.job);
  ref.set_round(task.round);
  ref.set_kind(task.kind == TaskId::Kind::kTrain ? v1::TaskRef::TRAIN
                                                 : v1::TaskRef::EVALUATE);
  return ref;
}

}  // namespace koinon::worker
