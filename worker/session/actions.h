#ifndef KOINON_WORKER_SESSION_ACTIONS_H_
#define KOINON_WORKER_SESSION_ACTIONS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/ids.h"
#include "proto/worker.pb.h"

namespace koinon::worker {

// What the session machine asks its driver to do. Sessions, runs and pushes are
// numbered, and the driver's answers carry the number back: an answer to
// something that the machine has meanwhile given up is recognised as such.

// Open a stream and send `hello`; then report its messages and its end.
struct OpenSession {
  uint64_t session;
  v1::Hello hello;
};
struct SendMessage {
  uint64_t session;
  v1::WorkerMessage message;
};
// `graceful`: after everything sent has left; else at once. No event of this
// session counts any more.
struct CloseSession {
  uint64_t session;
  bool graceful;
  std::string reason;
};
// The coordinator has answered, and the session is open.
struct UseWelcome {
  v1::Welcome welcome;
};
// Bring the offer's base version here; then OnFetched.
struct FetchModel {
  uint64_t run;
  v1::OfferTask offer;
};
// OnFetched still follows, soon.
struct CancelFetch {
  uint64_t run;
};
// Train or evaluate, and keep the update; then OnTrained or OnEvaluated.
struct RunTask {
  uint64_t run;
  v1::OfferTask offer;
};
// OnTrained or OnEvaluated still follows, soon.
struct StopTask {
  uint64_t run;
};
// The run needs its model no more.
struct EndTask {
  uint64_t run;
};
// Push the kept update from `offset`; then OnPushed.
struct StartPush {
  uint64_t push;
  v1::UpdateHeader header;
  int64_t offset;
  int64_t chunk_bytes;
};
// OnPushed still follows, soon.
struct CancelPush {
  uint64_t push;
};
// Delete the kept update.
struct ForgetUpdate {
  TaskId task;
  std::string reason;
  // A version holds it: what the worker carries from round to round may change.
  bool included = false;
};
// Log it: the coordinator did something odd.
struct Warn {
  std::string message;
};
using Action = std::variant<OpenSession, SendMessage, CloseSession, UseWelcome,
                            FetchModel, CancelFetch, RunTask, StopTask, EndTask,
                            StartPush, CancelPush, ForgetUpdate, Warn>;
using Actions = std::vector<Action>;

// How a push ended. Exactly one of the three: `status` is an error (the call
// broke; the update is as good as before), `file_status` is (the kept file
// cannot be read any more), or the coordinator answered.
struct PushOutcome {
  absl::Status status;
  absl::Status file_status;
  bool accepted = false;
  std::string reason;
};

// Collects the actions of one event. Messages are dropped while no session is
// open: everything that a coordinator must learn is told again after Welcome.
class Outbox {
 public:
  // `session`: the open one, if there is one.
  explicit Outbox(std::optional<uint64_t> session) : session_(session) {}

  std::optional<uint64_t> session() const { return session_; }
  // Returns whether the message was taken.
  bool Send(v1::WorkerMessage message) {
    if (!session_.has_value()) return false;
    actions_.push_back(SendMessage{*session_, std::move(message)});
    return true;
  }
  void Do(Action action) { actions_.push_back(std::move(action)); }
  Actions Take() { return std::move(actions_); }

 private:
  std::optional<uint64_t> session_;
  Actions actions_;
};

// INVALID_ARGUMENT that says which field is wrong: a job's name that is none, a
// round below 0, an unknown kind. (Round 0 exists for evaluation only: the
// initial model.)
absl::StatusOr<TaskId> TaskIdFromRef(const v1::TaskRef& ref);
v1::TaskRef RefFromTaskId(const TaskId& task);

}  // namespace koinon::worker

#endif  // KOINON_WORKER_SESSION_ACTIONS_H_
