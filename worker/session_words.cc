#include "worker/session_words.h"

#include "absl/status/statusor.h"
#include "base/ids.h"
#include "base/log.h"
#include "worker/session/actions.h"

namespace koinon::worker {

std::string TaskName(const v1::TaskRef& ref) {
  const auto task = TaskIdFromRef(ref);
  return task.ok() ? task->ToString() : std::string(task.status().message());
}

void LogHeard(const v1::CoordinatorMessage& message) {
  if (message.has_welcome()) {
    LogInfo("connected",
            {{"federation", message.welcome().federation()},
             {"coordinator_version", message.welcome().software_version()},
             {"epoch", message.welcome().epoch()},
             {"lease_seconds", message.welcome().lease_seconds()}});
  } else if (message.has_offer_task()) {
    LogInfo("task offered", {{"task", TaskName(message.offer_task().task())},
                             {"dataset", message.offer_task().dataset()}});
  } else if (message.has_withdraw_task()) {
    LogInfo("task withdrawn",
            {{"task", TaskName(message.withdraw_task().task())},
             {"reason", message.withdraw_task().reason()}});
  }
}

void LogSaid(const v1::WorkerMessage& message) {
  if (message.has_refuse_task()) {
    LogWarning("task refused",
               {{"task", TaskName(message.refuse_task().task())},
                {"reason", message.refuse_task().reason()}});
  } else if (message.has_task_failed()) {
    LogError("task failed", {{"task", TaskName(message.task_failed().task())},
                             {"reason", message.task_failed().reason()}});
  }
}

v1::WorkerMessage ForOthers(v1::WorkerMessage message,
                            const LocalPaths& paths) {
  const auto hide = [&paths](std::string* reason) {
    *reason = paths.Hide(*reason);
  };
  if (message.has_refuse_task()) {
    hide(message.mutable_refuse_task()->mutable_reason());
  } else if (message.has_task_failed()) {
    hide(message.mutable_task_failed()->mutable_reason());
  } else if (message.has_goodbye()) {
    hide(message.mutable_goodbye()->mutable_reason());
  }
  return message;
}

}  // namespace koinon::worker
