#ifndef KOINON_WORKER_SESSION_TASK_QUEUE_H_
#define KOINON_WORKER_SESSION_TASK_QUEUE_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/ids.h"
#include "base/random.h"
#include "proto/worker.pb.h"
#include "worker/session/actions.h"
#include "worker/session/connection.h"

namespace koinon::worker {

// The tasks that this worker has accepted: at most one of training and one of
// evaluation. Each first fetches its model, then runs; one model is fetched at
// a time, and one task runs at a time, in the order of acceptance. Pure, not
// thread-safe.
//
// A task that is withdrawn leaves at once, but the fetch or the run that it had
// under way goes on until the driver reports its end: until then the next one
// waits.
class TaskQueue {
 public:
  struct Options {
    Backoff backoff;
    absl::Duration progress_interval;
    v1::Capabilities capabilities;
    // Finds early what training would find late (a model that the data does not
    // fit). Quick. May be null.
    std::function<absl::Status(const v1::OfferTask&)> check_offer;
  };

  TaskQueue(Options options, Random random)
      : options_(std::move(options)), random_(random) {}

  // Answers with AcceptTask or RefuseTask, or with EvaluationDone if the
  // evaluation asked for was the last one done. Requires an open session.
  //
  // A task in the way gives way if it cannot matter any more: an older round of
  // the same job, or one that the coordinator has not offered since this
  // session began (it offers again what it still wants).
  void OnOffer(absl::Time now, const TaskId& task, const v1::OfferTask& offer,
               Outbox& out);
  // Unknown tasks are ignored: the withdrawal crossed our last word.
  void OnWithdrawn(const TaskId& task, Outbox& out);

  // Sends what could not be sent while no session was open.
  void OnWelcome(Outbox& out);

  // The coordinator hears, once, how the bytes came. A fetch that failed for a
  // reason that may pass is tried again until the task's deadline; any other
  // failure fails the task.
  void OnFetched(absl::Time now, uint64_t run,
                 const absl::StatusOr<v1::SwarmTraffic>& fetched, Outbox& out);
  void OnProgress(absl::Time now, uint64_t run, double fraction, double loss,
                  Outbox& out);
  // Returns the update if the coordinator is to hear of it. One whose task was
  // withdrawn meanwhile is forgotten, unless the same task was accepted again.
  std::optional<v1::UpdateHeader> OnTrained(
      uint64_t run, const absl::StatusOr<v1::UpdateHeader>& result,
      Outbox& out);
  void OnEvaluated(uint64_t run, const absl::StatusOr<v1::Metrics>& result,
                   Outbox& out);

  // Starts what can start now. After every event.
  void Pump(absl::Time now, Outbox& out);
  // Drops every task and stops what is under way.
  void StopAll(Outbox& out);

  absl::Time next_deadline() const;
  // Whether a fetch or a run is under way.
  bool busy() const { return fetching_.has_value() || running_.has_value(); }
  bool Has(const TaskId& task) const;

 private:
  enum class Stage { kWaiting, kFetching, kReady, kRunning };
  struct Task {
    uint64_t run = 0;
    TaskId id;
    v1::OfferTask offer;
    uint64_t session = 0;  // in which it was offered last
    Stage stage = Stage::kWaiting;
    absl::Time deadline;
    int fetch_failures = 0;
    absl::Time fetch_at = absl::InfinitePast();
    absl::Time last_progress = absl::InfinitePast();
    std::optional<v1::SwarmTraffic> fetched;  // not said yet
  };
  struct Evaluation {
    TaskId id;
    std::string base_digest;
    v1::EvaluationDone done;
    bool sent = false;
  };

  absl::Status CheckOffer(const TaskId& task, const v1::OfferTask& offer) const;
  // Removes the task in the way of `task`, or says why it stays.
  absl::Status MakeRoom(const TaskId& task, const v1::OfferTask& offer,
                        Outbox& out);
  bool SendProgress(Task& task, double fraction, double loss, Outbox& out);
  Task* FindRun(uint64_t run);
  Task* FindTask(const TaskId& task);
  void Drop(uint64_t run, Outbox& out);
  void Fail(uint64_t run, const absl::Status& status, Outbox& out);

  const Options options_;
  Random random_;
  uint64_t last_run_ = 0;
  std::vector<Task> tasks_;  // at most one of each kind, oldest first
  // Runs under way; their tasks may be gone.
  std::optional<uint64_t> fetching_;
  std::optional<uint64_t> running_;
  std::optional<Evaluation> last_evaluation_;
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_SESSION_TASK_QUEUE_H_
