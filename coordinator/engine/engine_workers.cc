// The engine's side that faces workers: sessions, tasks, updates.

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/ids.h"
#include "base/log.h"
#include "base/version.h"
#include "coordinator/engine/engine.h"

namespace koinon::coordinator {
namespace {

TaskId::Kind KindOf(const v1::TaskRef& task) {
  return task.kind() == v1::TaskRef::EVALUATE ? TaskId::Kind::kEvaluate
                                              : TaskId::Kind::kTrain;
}

// What a worker wrote, cut to a length that logs and reports can carry. Never
// within a character: a report that is not UTF-8 could not be read back from
// the journal.
std::string Bounded(const std::string& reason) {
  constexpr size_t kMaxReason = 500;
  if (reason.size() <= kMaxReason) return reason;
  size_t end = kMaxReason;
  while (end > 0 && (static_cast<unsigned char>(reason[end]) & 0xC0) == 0x80) {
    --end;
  }
  return reason.substr(0, end);
}

// The task that a message is about, if it is about one.
const v1::TaskRef* TaskOf(const v1::WorkerMessage& message) {
  switch (message.message_case()) {
    case v1::WorkerMessage::kAcceptTask:
      return &message.accept_task().task();
    case v1::WorkerMessage::kRefuseTask:
      return &message.refuse_task().task();
    case v1::WorkerMessage::kTaskProgress:
      return &message.task_progress().task();
    case v1::WorkerMessage::kUpdateReady:
      return &message.update_ready().header().task();
    case v1::WorkerMessage::kEvaluationDone:
      return &message.evaluation_done().task();
    case v1::WorkerMessage::kTaskFailed:
      return &message.task_failed().task();
    default:
      return nullptr;
  }
}

}  // namespace

void Engine::SendTo(const WorkerId& worker, v1::CoordinatorMessage message) {
  const Registry::Worker* known = registry_.Find(worker);
  if (known == nullptr || !known->connected) return;
  const auto it = sessions_.find(known->session);
  if (it != sessions_.end()) it->second.port->Send(std::move(message));
}

void Engine::Settle(const WorkerId& worker, const v1::TaskRef& task,
                    v1::UpdateSettled::Outcome outcome, std::string reason) {
  AfterCommit([this, worker, task, outcome, reason = std::move(reason)] {
    v1::CoordinatorMessage message;
    v1::UpdateSettled* settled = message.mutable_update_settled();
    *settled->mutable_task() = task;
    settled->set_outcome(outcome);
    settled->set_reason(reason);
    SendTo(worker, std::move(message));
  });
}

void Engine::SendOffer(const JobId& name, const WorkerId& worker,
                       TaskId::Kind kind, int64_t round) {
  AfterCommit([this, name, worker, kind, round] {
    const Job* job = FindJob(name);
    if (job == nullptr || job->round.round != round || draining_) return;
    if (kind == TaskId::Kind::kTrain) {
      // It has told us already that this update is ready.
      if (desk_->Expects({name, round, worker})) return;
      if (job->accepted.contains(worker)) return;
    }
    v1::CoordinatorMessage message;
    *message.mutable_offer_task() =
        MakeOffer(*job, worker, kind, clock_->Now());
    SendTo(worker, std::move(message));
    SendWorkerEvent(name, worker, v1::WorkerEvent::OFFERED, "");
  });
}

void Engine::HandleHello(uint64_t session, const v1::Hello& hello,
                         const std::string& address) {
  const auto it = sessions_.find(session);
  if (it == sessions_.end()) return;  // closed meanwhile
  const WorkerId& id = hello.worker();
  const Registry::Worker* before = registry_.Find(id);
  if (before != nullptr && before->connected && before->session != session) {
    const auto old = sessions_.find(before->session);
    if (old != sessions_.end()) {
      LogWarning("a worker came again while connected",
                 {{"worker", id}, {"from", address}, {"was", before->address}});
      old->second.port->Close(
          absl::AbortedError("another process has taken this worker's name"));
      sessions_.erase(old);
    }
  }
  Registry::Worker worker;
  worker.id = id;
  worker.capabilities = hello.capabilities();
  worker.software_version = hello.software_version();
  worker.address = address;
  worker.session = session;
  const absl::Status joined = registry_.Join(clock_->Now(), std::move(worker));
  if (!joined.ok()) {
    it->second.port->Close(joined);
    sessions_.erase(it);
    return;
  }
  it->second.worker = id;
  candidates_changed_ = true;

  v1::CoordinatorMessage message;
  v1::Welcome* welcome = message.mutable_welcome();
  welcome->mutable_protocol()->set_major(kProtocolMajor);
  welcome->mutable_protocol()->set_minor(kProtocolMinor);
  welcome->set_software_version(std::string(kSoftwareVersion));
  welcome->set_federation(options_.federation);
  welcome->set_lease_seconds(absl::ToDoubleSeconds(options_.lease));
  welcome->set_max_chunk_bytes(options_.max_chunk_bytes);
  welcome->set_epoch(journal_->epoch());
  it->second.port->Send(std::move(message));
  LogInfo("worker joined", {{"worker", id}, {"from", address}});

  ForgetUnheldUploads(hello);
  for (const v1::UpdateHeader& header : hello.held_updates()) {
    if (ValidateId("job name", header.task().job()).ok()) {
      HandleUpdateReady(id, header);
    }
  }
  const absl::Time now = clock_->Now();
  for (auto& [name, job] : jobs_) {
    if (job->finished()) continue;
    Perform(job.get(), job->machine.OnWorkerJoined(now, id));
    SendWorkerEvent(name, id, v1::WorkerEvent::JOINED, address);
  }
}

// A worker that came back without an update that it had announced would never
// take up the grant: it must be offered the task anew.
void Engine::ForgetUnheldUploads(const v1::Hello& hello) {
  const auto holds = [&](const Job& job) {
    return std::any_of(hello.held_updates().begin(), hello.held_updates().end(),
                       [&](const v1::UpdateHeader& header) {
                         return header.task().job() == job.row.spec.name() &&
                                header.task().round() == job.round.round;
                       });
  };
  for (const auto& [name, job] : jobs_) {
    if (job->finished() || holds(*job)) continue;
    desk_->Forget({name, job->round.round, hello.worker()});
  }
}

void Engine::HandleMessage(uint64_t session, const v1::WorkerMessage& message) {
  const auto it = sessions_.find(session);
  if (it == sessions_.end() || it->second.worker.empty()) return;
  const WorkerId worker = it->second.worker;
  if (!registry_.Renew(clock_->Now(), worker, session)) {
    // Its lease ran out while its messages waited: it must register again.
    it->second.port->Close(absl::AbortedError("the lease ran out"));
    sessions_.erase(it);
    return;
  }
  const v1::TaskRef* task = TaskOf(message);
  // What is no name must not be quoted back, or logged, at any length.
  if (task != nullptr && !ValidateId("job name", task->job()).ok()) {
    it->second.port->Close(absl::InvalidArgumentError(
        "a message about a task whose job name is none"));
    return;
  }
  switch (message.message_case()) {
    case v1::WorkerMessage::kRenewLease: {
      v1::CoordinatorMessage reply;
      reply.mutable_lease_renewed();
      it->second.port->Send(std::move(reply));
      return;
    }
    case v1::WorkerMessage::kGoodbye:
      LogInfo("worker left", {{"worker", worker},
                              {"reason", Bounded(message.goodbye().reason())}});
      registry_.Leave(worker, session);
      it->second.port->Close(absl::OkStatus());
      sessions_.erase(it);
      LoseWorker(worker, "it left");
      return;
    default:
      HandleTaskMessage(worker, message);
  }
}

void Engine::HandleRefusal(const WorkerId& worker, const v1::TaskRef& task,
                           const std::string& reason,
                           v1::WorkerEvent::Kind kind) {
  Job* job = FindJob(task.job());
  if (job == nullptr || task.round() != job->round.round) return;
  // Only who is at work can give up: an update that is in stays in.
  if (!job->machine.IsBusy(worker)) return;
  job->excluded[worker] = Bounded(reason);
  SendWorkerEvent(task.job(), worker, kind, Bounded(reason));
  job->needs_tick = true;
  OfferToOthers(*job);
  Perform(job,
          job->machine.OnTaskRefused(clock_->Now(), task.round(), KindOf(task),
                                     worker, Bounded(reason)));
}

void Engine::HandleProgress(const WorkerId& worker,
                            const v1::TaskProgress& progress) {
  const JobId& name = progress.task().job();
  const Job* job = FindJob(name);
  if (job == nullptr || !job->machine.IsBusy(worker)) return;
  v1::JobEvent event;
  event.mutable_worker()->set_worker(worker);
  event.mutable_worker()->set_kind(v1::WorkerEvent::PROGRESS);
  const double fraction = progress.fraction();
  event.mutable_worker()->set_fraction(
      std::isfinite(fraction) ? std::clamp(fraction, 0.0, 1.0) : 0);
  event.mutable_worker()->set_loss(progress.loss());
  SendEvent(name, std::move(event));
}

void Engine::HandleTaskMessage(const WorkerId& worker,
                               const v1::WorkerMessage& message) {
  const absl::Time now = clock_->Now();
  switch (message.message_case()) {
    case v1::WorkerMessage::kAcceptTask: {
      const v1::TaskRef& task = message.accept_task().task();
      Job* job = FindJob(task.job());
      if (job == nullptr) return;
      SendWorkerEvent(task.job(), worker, v1::WorkerEvent::ACCEPTED_TASK, "");
      Perform(job, job->machine.OnTaskAccepted(now, task.round(), KindOf(task),
                                               worker));
      return;
    }
    case v1::WorkerMessage::kRefuseTask:
      return HandleRefusal(worker, message.refuse_task().task(),
                           message.refuse_task().reason(),
                           v1::WorkerEvent::REFUSED_TASK);
    case v1::WorkerMessage::kTaskFailed:
      LogWarning("task failed",
                 {{"worker", worker},
                  {"job", message.task_failed().task().job()},
                  {"reason", Bounded(message.task_failed().reason())}});
      return HandleRefusal(worker, message.task_failed().task(),
                           message.task_failed().reason(),
                           v1::WorkerEvent::FAILED_TASK);
    case v1::WorkerMessage::kTaskProgress:
      return HandleProgress(worker, message.task_progress());
    case v1::WorkerMessage::kUpdateReady:
      return HandleUpdateReady(worker, message.update_ready().header());
    case v1::WorkerMessage::kEvaluationDone:
      return HandleEvaluation(worker, message.evaluation_done());
    default:
      return;  // a newer minor version's message, or a second Hello
  }
}

void Engine::HandleUpdateReady(const WorkerId& worker,
                               const v1::UpdateHeader& header) {
  const v1::TaskRef& task = header.task();
  Job* job = FindJob(task.job());
  if (job == nullptr) {
    return Settle(worker, task, v1::UpdateSettled::NOT_INCLUDED,
                  absl::StrCat("there is no job ", task.job()));
  }
  if (IsIncluded(worker, task)) {
    return Settle(worker, task, v1::UpdateSettled::INCLUDED, "");
  }
  const absl::Status wanted = job->machine.CheckUpdate(task.round(), worker);
  if (absl::IsAlreadyExists(wanted)) {
    const auto it = job->accepted.find(worker);
    const bool same = it != job->accepted.end() &&
                      it->second.digest.ToBytes() == header.digest();
    if (!same) {
      LogWarning(
          "a worker has two updates for one round",
          {{"worker", worker}, {"job", task.job()}, {"round", task.round()}});
    }
    return Settle(
        worker, task,
        same ? v1::UpdateSettled::ACCEPTED : v1::UpdateSettled::NOT_INCLUDED,
        same ? "" : "another update of this worker is in the round");
  }
  if (!wanted.ok()) {
    return Settle(worker, task, v1::UpdateSettled::NOT_INCLUDED,
                  std::string(wanted.message()));
  }
  const absl::Status fits = CheckUpdateHeader(*job, worker, header);
  if (!fits.ok()) {
    return RefuseUpload({task.job(), task.round(), worker},
                        std::string(fits.message()), nullptr);
  }
  desk_->Announce({task.job(), task.round(), worker}, header, job->layout);
  AdmitUploads();
}

bool Engine::IsIncluded(const WorkerId& worker, const v1::TaskRef& task) const {
  const auto job = reports_.find(task.job());
  if (job == reports_.end()) return false;
  const auto report = job->second.find(task.round());
  return report != job->second.end() &&
         std::binary_search(report->second.included().begin(),
                            report->second.included().end(), worker);
}

void Engine::AdmitUploads() {
  if (draining_) return;
  absl::Status full;
  for (const UploadDesk::Grant& grant : desk_->Admit(clock_->Now(), &full)) {
    const Registry::Worker* worker = registry_.Find(grant.key.worker);
    if (worker == nullptr || !worker->connected) {
      desk_->Return(grant.key, grant.number);  // it will announce again
      continue;
    }
    v1::CoordinatorMessage message;
    v1::GrantUpload* out = message.mutable_grant_upload();
    out->mutable_task()->set_job(grant.key.job);
    out->mutable_task()->set_round(grant.key.round);
    out->mutable_task()->set_kind(v1::TaskRef::TRAIN);
    out->set_offset(static_cast<int64_t>(grant.offset));
    out->set_expires_seconds(absl::ToDoubleSeconds(options_.lease));
    SendTo(grant.key.worker, std::move(message));
  }
  if (!full.ok() && !spool_full_) {
    LogWarning("uploads wait: the spool is full", {{"error", full}});
  }
  spool_full_ = !full.ok();
}

void Engine::AcceptUpload(const std::shared_ptr<Upload>& upload,
                          UploadReply reply) {
  const UploadKey key = upload->key();
  Job* job = FindJob(key.job);
  if (job == nullptr) return RefuseUpload(key, "the job is gone", reply);
  const Digest digest = *Digest::FromBytes(upload->header().digest());
  const absl::Status wanted = job->machine.CheckUpdate(key.round, key.worker);
  v1::PushUpdateReply answer;
  answer.set_accepted(true);
  if (absl::IsAlreadyExists(wanted)) {
    const auto it = job->accepted.find(key.worker);
    desk_->Forget(key);
    if (it == job->accepted.end() || it->second.digest != digest) {
      answer.set_accepted(false);
      answer.set_reason("another update of this worker is in the round");
    }
    return AfterCommit([reply, answer] { reply(answer); });
  }
  if (!wanted.ok()) {
    return RefuseUpload(key, std::string(wanted.message()), reply);
  }
  AcceptedRow row;
  row.job = key.job;
  row.round = key.round;
  row.task_round = key.round;
  row.worker = key.worker;
  row.digest = digest;
  row.extent = upload->TakeExtent();
  row.metrics = upload->header().metrics();
  desk_->Forget(key);
  job->accepted[key.worker] = row;
  job->excluded.erase(key.worker);
  job->bytes_received += upload->header().size_bytes();
  Mutate(row);
  AfterCommit([reply = std::move(reply), answer] { reply(answer); });
  SendWorkerEvent(key.job, key.worker, v1::WorkerEvent::UPDATE_ACCEPTED, "");
  OfferToOthers(*job);
  Perform(job, job->machine.OnUpdateAccepted(clock_->Now(), key.round,
                                             key.worker, row.metrics));
}

void Engine::RefuseUpload(const UploadKey& key, const std::string& reason,
                          const UploadReply& reply) {
  desk_->Forget(key);
  LogWarning("update refused", {{"worker", key.worker},
                                {"job", key.job},
                                {"round", key.round},
                                {"reason", reason}});
  v1::TaskRef task;
  task.set_job(key.job);
  task.set_round(key.round);
  task.set_kind(v1::TaskRef::TRAIN);
  if (reply) {
    v1::PushUpdateReply answer;
    answer.set_reason(reason);
    AfterCommit([reply, answer] { reply(answer); });
  }
  Settle(key.worker, task, v1::UpdateSettled::NOT_INCLUDED, reason);
  Job* job = FindJob(key.job);
  if (job == nullptr || job->round.round != key.round) return;
  if (!job->accepted.contains(key.worker)) job->excluded[key.worker] = reason;
  SendWorkerEvent(key.job, key.worker, v1::WorkerEvent::UPDATE_REFUSED, reason);
  job->needs_tick = true;
  OfferToOthers(*job);
  Perform(job,
          job->machine.OnTaskRefused(clock_->Now(), key.round,
                                     TaskId::Kind::kTrain, key.worker, reason));
}

void Engine::HandleEvaluation(const WorkerId& worker,
                              const v1::EvaluationDone& done) {
  Job* job = FindJob(done.task().job());
  if (job == nullptr) return;
  const absl::Time now = clock_->Now();
  OfferToOthers(*job);
  const absl::Status valid = CheckMetrics(done.metrics());
  if (!valid.ok()) {
    LogWarning("evaluation refused", {{"worker", worker}, {"error", valid}});
    return Perform(job, job->machine.OnTaskRefused(
                            now, done.task().round(), TaskId::Kind::kEvaluate,
                            worker, std::string(valid.message())));
  }
  Perform(job, job->machine.OnEvaluated(now, done.task().round(), worker,
                                        done.metrics()));
}

void Engine::HandleClosed(uint64_t session) {
  const auto it = sessions_.find(session);
  if (it == sessions_.end()) return;
  const WorkerId worker = it->second.worker;
  sessions_.erase(it);
  if (worker.empty() || !registry_.Disconnect(worker, session)) return;
  LogInfo("worker disconnected", {{"worker", worker}});
  candidates_changed_ = true;
}

void Engine::LoseWorker(const WorkerId& worker, const std::string& reason) {
  candidates_changed_ = true;
  for (auto& [name, job] : jobs_) {
    if (job->finished()) continue;
    if (job->machine.IsBusy(worker)) job->excluded[worker] = reason;
    job->needs_tick = true;
    SendWorkerEvent(name, worker, v1::WorkerEvent::LOST, reason);
    Perform(job.get(),
            job->machine.OnWorkerLost(clock_->Now(), worker, reason));
  }
}

}  // namespace koinon::coordinator
