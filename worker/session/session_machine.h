#ifndef KOINON_WORKER_SESSION_SESSION_MACHINE_H_
#define KOINON_WORKER_SESSION_SESSION_MACHINE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/ids.h"
#include "proto/worker.pb.h"
#include "worker/session/actions.h"
#include "worker/session/connection.h"
#include "worker/session/task_queue.h"
#include "worker/session/upload_queue.h"

namespace koinon::worker {

// A worker's side of the protocol (proto/worker.proto): when to connect, what
// to answer, which task runs, which update is pushed. Pure: it owns no clock,
// thread, lock or socket. The driver passes events and `now` in and performs
// the returned actions in their order.
//
//   SessionMachine machine(config, store.held());
//   Perform(machine.Tick(clock.Now()));              // opens a session
//   Perform(machine.OnMessage(now, 1, welcome));
//   ... Tick again at machine.next_deadline()
//
// Not thread-safe. After a crash it is made again from the updates on disk;
// what else it knew, the coordinator tells again.
//
// It does not judge the coordinator: whatever that sends, the worker at worst
// reconnects.
class SessionMachine {
 public:
  struct Config {
    WorkerId worker;
    v1::Capabilities capabilities;
    // For Hello.peer. Absent: none is said.
    std::optional<v1::Contact> peer;
    Backoff backoff;
    absl::Duration welcome_timeout = absl::Seconds(10);
    absl::Duration progress_interval = absl::Milliseconds(500);
    size_t max_held_updates = 16;
    // Chunks of a push: the coordinator's bound, but never more than this.
    int64_t max_chunk_bytes = 4 << 20;
    uint64_t seed = 0;  // of the jitter
    // See TaskQueue.
    std::function<absl::Status(const v1::OfferTask&)> check_offer;
  };

  // INVALID_ARGUMENT that names the field.
  static absl::Status Validate(const Config& config);

  // Requires a valid config. `held`: the updates on disk.
  SessionMachine(Config config, std::vector<v1::UpdateHeader> held);

  // Time passes. The first call connects.
  Actions Tick(absl::Time now);

  Actions OnMessage(absl::Time now, uint64_t session,
                    const v1::CoordinatorMessage& message);
  // The stream could not be opened, or ended, whatever the status says.
  Actions OnSessionClosed(absl::Time now, uint64_t session,
                          const absl::Status& status);

  // The bytes that were fetched for it: none if the version was here.
  Actions OnFetched(absl::Time now, uint64_t run,
                    const absl::StatusOr<v1::SwarmTraffic>& fetched);
  Actions OnProgress(absl::Time now, uint64_t run, double fraction,
                     double loss);
  // The update is on disk, durably, or there is none.
  Actions OnTrained(absl::Time now, uint64_t run,
                    const absl::StatusOr<v1::UpdateHeader>& result);
  Actions OnEvaluated(absl::Time now, uint64_t run,
                      const absl::StatusOr<v1::Metrics>& result);
  Actions OnPushed(absl::Time now, uint64_t push, const PushOutcome& outcome);

  // Leaves: stops what runs, says goodbye, connects no more. Kept updates stay.
  Actions Stop(absl::Time now, const std::string& reason);

  // When Tick has to be called even if nothing happens.
  absl::Time next_deadline() const;

  Connection::State connection_state() const { return connection_.state(); }
  // Whether a fetch, a run or a push has not reported its end.
  bool busy() const { return tasks_.busy() || uploads_.busy(); }
  size_t held_updates() const { return uploads_.size(); }

 private:
  Outbox NewOutbox() const { return Outbox(connection_.open_session()); }
  // Ends every event: starts what can start now.
  Actions Finish(absl::Time now, Outbox& out);
  void Open(absl::Time now, Outbox& out);
  void Break(absl::Time now, const std::string& reason, bool permanent,
             Outbox& out);
  void OnWelcome(absl::Time now, const v1::Welcome& welcome, Outbox& out);
  void OnOffer(absl::Time now, const v1::OfferTask& offer, Outbox& out);
  void Dispatch(absl::Time now, const v1::CoordinatorMessage& message,
                Outbox& out);

  const Config config_;
  Connection connection_;
  TaskQueue tasks_;
  UploadQueue uploads_;
};

// Whether only an operator can mend what ended a session: versions, names or
// certificates that do not fit.
bool NeedsOperator(const absl::Status& status);

}  // namespace koinon::worker

#endif  // KOINON_WORKER_SESSION_SESSION_MACHINE_H_
