#ifndef KOINON_WORKER_SESSION_UPLOAD_QUEUE_H_
#define KOINON_WORKER_SESSION_UPLOAD_QUEUE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/ids.h"
#include "base/random.h"
#include "proto/worker.pb.h"
#include "worker/session/actions.h"
#include "worker/session/connection.h"

namespace koinon::worker {

// The updates that this worker has finished and still keeps, and their way to
// the coordinator: announced (UpdateReady, or in Hello), granted, pushed,
// accepted, and kept until they are settled. One push runs at a time, in the
// order of the grants. Pure, not thread-safe.
//
// After a broken push the update is announced again: the coordinator knows how
// much of it arrived, and grants from there.
class UploadQueue {
 public:
  struct Options {
    Backoff backoff;
    // More than this, and the one that matters least is forgotten.
    size_t max_held;
  };

  // `held`: what the disk held when the process started.
  UploadQueue(Options options, std::vector<v1::UpdateHeader> held,
              Random random);

  // A finished update, on disk. Announces it.
  void Add(const v1::UpdateHeader& header, Outbox& out);
  // The coordinator offers the task of an update that is held: says so, unless
  // its push is due or under way.
  void OnOffered(const TaskId& task, Outbox& out);
  // Fills Hello's list: all of it is thereby announced in `session`.
  void Announce(uint64_t session, v1::Hello& hello);
  // Announces what has been finished since that Hello.
  void OnWelcome(int64_t max_chunk_bytes, Outbox& out);
  // Grants of a broken session are void. A push under way goes on: it is a call
  // of its own.
  void OnSessionBroken();

  void OnGrant(absl::Time now, const TaskId& task, const v1::GrantUpload& grant,
               Outbox& out);
  void OnSettled(const TaskId& task, const v1::UpdateSettled& settled,
                 Outbox& out);
  // Drops the update, unless it has been accepted: then only its settlement
  // counts.
  void OnWithdrawn(const TaskId& task, Outbox& out);
  void OnPushed(absl::Time now, uint64_t push, const PushOutcome& outcome,
                Outbox& out);
  void Forget(const TaskId& task, const std::string& reason, Outbox& out) {
    Forget(task, reason, /*included=*/false, out);
  }

  // Starts or announces what is due. After every event.
  void Pump(absl::Time now, Outbox& out);
  // Cancels the push under way.
  void Stop(Outbox& out);

  absl::Time next_deadline() const;
  bool busy() const { return pushing_.has_value(); }
  // The held update for the task, or null.
  const v1::UpdateHeader* Find(const TaskId& task) const;
  size_t size() const { return held_.size(); }

 private:
  enum class State {
    kKept,       // to be announced, at announce_at or by the next Hello
    kAnnounced,  // the coordinator's turn
    kGranted,    // waits for its turn to be pushed
    kPushing,
    kAccepted,  // durable at the coordinator
  };
  struct Update {
    v1::UpdateHeader header;
    State state = State::kKept;
    uint64_t age = 0;  // grows with each Add
    uint64_t announced_session = 0;
    absl::Time announce_at = absl::InfinitePast();
    int failures = 0;
    uint64_t grant = 0;  // grows with each grant
    int64_t offset = 0;
    absl::Time grant_expires = absl::InfiniteFuture();
  };
  struct Push {
    uint64_t number;
    TaskId task;  // whose update may be gone
    bool cancelled = false;
  };

  void Forget(const TaskId& task, const std::string& reason, bool included,
              Outbox& out);
  // The update that `pushing_` pushes, if it is still held.
  Update* UpdateOfPush();
  void CancelPushOf(const TaskId& task, Outbox& out);
  void SendReady(Update& update, Outbox& out);
  void AnnounceLater(absl::Time now, Update& update);
  void StartNextPush(Outbox& out);
  void EvictOverBound(Outbox& out);

  const Options options_;
  Random random_;
  std::map<TaskId, Update> held_;
  std::optional<Push> pushing_;
  uint64_t last_push_ = 0;
  uint64_t last_grant_ = 0;
  uint64_t last_age_ = 0;
  int64_t chunk_bytes_ = 0;
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_SESSION_UPLOAD_QUEUE_H_
