#include "worker/session/upload_queue.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace koinon::worker {

UploadQueue::UploadQueue(Options options, std::vector<v1::UpdateHeader> held,
                         Random random)
    : options_(options), random_(random) {
  for (v1::UpdateHeader& header : held) {
    const absl::StatusOr<TaskId> task = TaskIdFromRef(header.task());
    if (!task.ok()) continue;  // the store keeps only headers with sound tasks
    Update& update = held_[*task];
    update.header = std::move(header);
    update.age = ++last_age_;
  }
}

void UploadQueue::Add(const v1::UpdateHeader& header, Outbox& out) {
  const absl::StatusOr<TaskId> task = TaskIdFromRef(header.task());
  if (!task.ok()) return;
  Update update;
  update.header = header;
  update.age = ++last_age_;
  CancelPushOf(*task, out);
  held_[*task] = std::move(update);
  SendReady(held_[*task], out);
  EvictOverBound(out);
}

void UploadQueue::OnOffered(const TaskId& task, Outbox& out) {
  const auto it = held_.find(task);
  if (it == held_.end() || it->second.state == State::kPushing ||
      it->second.state == State::kGranted) {
    return;
  }
  SendReady(it->second, out);
}

void UploadQueue::Announce(uint64_t session, v1::Hello& hello) {
  for (auto& [task, update] : held_) {
    *hello.add_held_updates() = update.header;
    update.announced_session = session;
  }
}

void UploadQueue::OnWelcome(int64_t max_chunk_bytes, Outbox& out) {
  chunk_bytes_ = max_chunk_bytes;
  for (auto& [task, update] : held_) {
    if (update.state != State::kKept) continue;
    if (update.announced_session == out.session()) {
      update.state = State::kAnnounced;
    } else {
      SendReady(update, out);
    }
  }
}

void UploadQueue::OnSessionBroken() {
  for (auto& [task, update] : held_) {
    if (update.state == State::kAnnounced || update.state == State::kGranted) {
      update.state = State::kKept;
    }
  }
}

void UploadQueue::OnGrant(absl::Time now, const TaskId& task,
                          const v1::GrantUpload& grant, Outbox& out) {
  const auto it = held_.find(task);
  if (it == held_.end()) {
    v1::WorkerMessage message;
    *message.mutable_task_failed()->mutable_task() = RefFromTaskId(task);
    message.mutable_task_failed()->set_reason(absl::StrCat(
        "no update for ", task.ToString(), " is kept by this worker"));
    out.Send(std::move(message));
    return;
  }
  Update& update = it->second;
  CancelPushOf(task, out);
  if (grant.offset() < 0 || grant.offset() > update.header.size_bytes()) {
    out.Do(Warn{absl::StrCat("grant for ", task.ToString(), " from offset ",
                             grant.offset(), ", but the update has ",
                             update.header.size_bytes(), " bytes")});
    AnnounceLater(now, update);
    return;
  }
  update.state = State::kGranted;
  update.grant = ++last_grant_;
  update.offset = grant.offset();
  update.grant_expires = grant.expires_seconds() > 0
                             ? now + absl::Seconds(grant.expires_seconds())
                             : absl::InfiniteFuture();
}

void UploadQueue::OnSettled(const TaskId& task,
                            const v1::UpdateSettled& settled, Outbox& out) {
  const auto it = held_.find(task);
  if (it == held_.end()) return;
  switch (settled.outcome()) {
    case v1::UpdateSettled::ACCEPTED:
      CancelPushOf(task, out);
      it->second.state = State::kAccepted;
      return;
    case v1::UpdateSettled::INCLUDED:
      Forget(task, "included", /*included=*/true, out);
      return;
    case v1::UpdateSettled::NOT_INCLUDED:
      Forget(task, absl::StrCat("not included: ", settled.reason()), out);
      return;
    default:
      out.Do(Warn{absl::StrCat("update for ", task.ToString(),
                               " settled in an unknown way (",
                               settled.outcome(), "); it is kept")});
  }
}

void UploadQueue::OnWithdrawn(const TaskId& task, Outbox& out) {
  const auto it = held_.find(task);
  if (it == held_.end() || it->second.state == State::kAccepted) return;
  Forget(task, "withdrawn", out);
}

void UploadQueue::OnPushed(absl::Time now, uint64_t push,
                           const PushOutcome& outcome, Outbox& out) {
  if (!pushing_.has_value() || pushing_->number != push) return;
  Update* const update = UpdateOfPush();
  const TaskId task = pushing_->task;
  pushing_.reset();
  // The update is gone, or has been granted, accepted or replaced meanwhile.
  if (update == nullptr) return;
  if (!outcome.file_status.ok()) {
    v1::WorkerMessage message;
    *message.mutable_task_failed()->mutable_task() = update->header.task();
    message.mutable_task_failed()->set_reason(absl::StrCat(
        "the kept update cannot be read: ", outcome.file_status.message()));
    out.Send(std::move(message));
    Forget(task, "cannot be read", out);
  } else if (!outcome.status.ok()) {
    AnnounceLater(now, *update);
  } else if (outcome.accepted) {
    update->state = State::kAccepted;
    update->failures = 0;
  } else {
    Forget(task, absl::StrCat("refused: ", outcome.reason), out);
  }
}

void UploadQueue::Forget(const TaskId& task, const std::string& reason,
                         bool included, Outbox& out) {
  CancelPushOf(task, out);
  if (held_.erase(task) > 0) out.Do(ForgetUpdate{task, reason, included});
}

void UploadQueue::Pump(absl::Time now, Outbox& out) {
  if (!out.session().has_value()) return;
  for (auto& [task, update] : held_) {
    if (update.state == State::kGranted && now >= update.grant_expires) {
      update.state = State::kKept;
      update.announce_at = now;
    }
    if (update.state == State::kKept && now >= update.announce_at) {
      SendReady(update, out);
    }
  }
  StartNextPush(out);
}

void UploadQueue::StartNextPush(Outbox& out) {
  if (pushing_.has_value()) return;
  std::pair<const TaskId, Update>* next = nullptr;
  for (auto& entry : held_) {
    if (entry.second.state != State::kGranted) continue;
    if (next == nullptr || entry.second.grant < next->second.grant) {
      next = &entry;
    }
  }
  if (next == nullptr) return;
  next->second.state = State::kPushing;
  pushing_ = Push{++last_push_, next->first};
  out.Do(StartPush{last_push_, next->second.header, next->second.offset,
                   chunk_bytes_});
}

void UploadQueue::Stop(Outbox& out) {
  if (pushing_.has_value()) CancelPushOf(pushing_->task, out);
}

absl::Time UploadQueue::next_deadline() const {
  absl::Time next = absl::InfiniteFuture();
  for (const auto& [task, update] : held_) {
    if (update.state == State::kGranted) {
      next = std::min(next, update.grant_expires);
    } else if (update.state == State::kKept) {
      next = std::min(next, update.announce_at);
    }
  }
  return next;
}

const v1::UpdateHeader* UploadQueue::Find(const TaskId& task) const {
  const auto it = held_.find(task);
  return it == held_.end() ? nullptr : &it->second.header;
}

UploadQueue::Update* UploadQueue::UpdateOfPush() {
  if (pushing_->cancelled) return nullptr;
  const auto it = held_.find(pushing_->task);
  return it == held_.end() ? nullptr : &it->second;
}

void UploadQueue::CancelPushOf(const TaskId& task, Outbox& out) {
  if (!pushing_.has_value() || pushing_->task != task || pushing_->cancelled) {
    return;
  }
  pushing_->cancelled = true;
  out.Do(CancelPush{pushing_->number});
}

void UploadQueue::SendReady(Update& update, Outbox& out) {
  v1::WorkerMessage message;
  *message.mutable_update_ready()->mutable_header() = update.header;
  if (!out.Send(std::move(message))) return;  // the next Hello tells of it
  update.announced_session = *out.session();
  update.state = State::kAnnounced;
}

void UploadQueue::AnnounceLater(absl::Time now, Update& update) {
  update.state = State::kKept;
  update.announce_at = now + options_.backoff.Delay(++update.failures, random_);
}

void UploadQueue::EvictOverBound(Outbox& out) {
  while (held_.size() > options_.max_held) {
    // Accepted ones are safe at the coordinator; of the others the oldest has
    // the least chance to be wanted still.
    const auto least = std::min_element(
        held_.begin(), held_.end(), [](const auto& a, const auto& b) {
          const bool a_needed = a.second.state != State::kAccepted;
          const bool b_needed = b.second.state != State::kAccepted;
          return std::pair(a_needed, a.second.age) <
                 std::pair(b_needed, b.second.age);
        });
    Forget(TaskId(least->first),
           absl::StrCat("more than ", options_.max_held, " updates are kept"),
           out);
  }
}

}  // namespace koinon::worker
