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

// Whether a buffered round's version holds the worker's answer to the task of
// `task_round`.
bool AnswersTask(const v1::RoundReport& report, int64_t task_round,
                 const WorkerId& worker) {
  if (!std::binary_search(report.included().begin(), report.included().end(),
                          worker)) {
    return false;
  }
  const auto& updates = report.aggregation().updates();
  return std::any_of(updates.begin(), updates.end(), [&](const auto& update) {
    return update.worker() == worker &&
           report.round() - update.staleness() == task_round;
  });
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
    if (job == nullptr || draining_) return;
    if (!job->machine.IsAtWork(round, kind, worker)) return;
    const UploadKey key = {name, round, worker};
    if (kind == TaskId::Kind::kTrain) {
      // It has told us already that this update is ready.
      if (desk_->Expects(key) || waiting_.contains(key)) return;
    }
    const auto base = BaseOf(*job, kind, round);
    if (base == nullptr) return;
    v1::CoordinatorMessage message;
    *message.mutable_offer_task() =
        MakeOffer(*job, *base, worker, kind, round, clock_->Now());
    AddFetchPeers(*job, worker, message.mutable_offer_task());
    SendTo(worker, std::move(message));
    SendWorkerEvent(name, worker, v1::WorkerEvent::OFFERED, "");
  });
}

// The version that a task starts from. Null, and logged, if it is gone.
std::shared_ptr<const v1::ModelManifest> Engine::BaseOf(const Job& job,
                                                        TaskId::Kind kind,
                                                        int64_t round) const {
  const int64_t version = kind == TaskId::Kind::kTrain ? round - 1 : round;
  if (version == job.version) {
    return std::make_shared<const v1::ModelManifest>(job.head);
  }
  const auto found = catalog_->Find(job.row.spec.name(), version);
  if (found.ok()) return *found;
  LogError("a task's version is gone", {{"job", job.row.spec.name()},
                                        {"round", round},
                                        {"error", found.status()}});
  return nullptr;
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
  if (hello.has_peer()) {
    // Checked when it came: no other is taken for a node's.
    auto peer = dht::ContactFromProto(hello.peer());
    if (peer.ok()) worker.peer = *std::move(peer);
  }
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
  welcome->set_signing_key(
      options_.publish.signer->node().key.public_key().ToBytes());
  if (options_.outlet != nullptr) {
    auto self = options_.outlet->Self();
    if (self.has_value()) *welcome->mutable_peer() = *std::move(self);
  }
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
  const auto holds = [&](const JobId& job, int64_t round) {
    return std::any_of(hello.held_updates().begin(), hello.held_updates().end(),
                       [&](const v1::UpdateHeader& header) {
                         return header.task().job() == job &&
                                header.task().round() == round;
                       });
  };
  for (const auto& [name, job] : jobs_) {
    const int64_t round = TaskRoundOf(job->round, hello.worker());
    if (job->finished() || holds(name, round)) continue;
    desk_->Forget({name, round, hello.worker()});
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
  if (job == nullptr) return;
  // Only who is at work can give up: an update that is in stays in.
  if (!job->machine.IsAtWork(task.round(), KindOf(task), worker)) return;
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
  Job* job = FindJob(name);
  if (job == nullptr || !job->machine.IsBusy(worker)) return;
  if (progress.has_fetched()) {
    CountFetched(worker, KindOf(progress.task()), progress.fetched(), job);
  }
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
  // Its bytes may come before the round that it can enter.
  if (!wanted.ok() && !absl::IsUnavailable(wanted)) {
    return Settle(worker, task, v1::UpdateSettled::NOT_INCLUDED,
                  std::string(wanted.message()));
  }
  const auto base = BaseOf(*job, TaskId::Kind::kTrain, task.round());
  if (base == nullptr) {
    return Settle(worker, task, v1::UpdateSettled::NOT_INCLUDED,
                  "the version that it starts from is gone");
  }
  const absl::Status fits = CheckUpdateHeader(*job, *base, worker, header);
  if (!fits.ok()) {
    return RefuseUpload({task.job(), task.round(), worker},
                        std::string(fits.message()), nullptr);
  }
  desk_->Announce({task.job(), task.round(), worker}, header, job->layout,
                  TermsFor(job));
  AdmitUploads();
}

bool Engine::IsIncluded(const WorkerId& worker, const v1::TaskRef& task) const {
  const auto job = reports_.find(task.job());
  if (job == reports_.end()) return false;
  const auto report = job->second.find(task.round());
  if (report == job->second.end()) return false;
  const v1::JobSpec& spec = jobs_.at(task.job())->row.spec;
  if (!spec.has_buffer()) {
    return std::binary_search(report->second.included().begin(),
                              report->second.included().end(), worker);
  }
  const auto end =
      job->second.upper_bound(task.round() + spec.buffer().max_staleness());
  return std::any_of(report, end, [&](const auto& entry) {
    return AnswersTask(entry.second, task.round(), worker);
  });
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
  const bool spool_full = absl::IsResourceExhausted(full);
  if (spool_full && !spool_full_) {
    LogWarning("uploads wait: the spool is full", {{"error", full}});
  }
  spool_full_ = spool_full;
}

void Engine::AcceptUpload(const std::shared_ptr<Upload>& upload,
                          UploadReply reply) {
  const UploadKey key = upload->key();
  Job* job = FindJob(key.job);
  if (job == nullptr) return RefuseUpload(key, "the job is gone", reply);
  if (absl::IsUnavailable(job->machine.CheckUpdate(key.round, key.worker))) {
    // If a second stream has found it whole too, the newer one is answered.
    waiting_.insert_or_assign(key, WaitingUpload{upload, std::move(reply)});
    return;
  }
  if (AnswerIfUnwanted(job, *upload, reply)) return;
  EnterUpdate(job, *upload, upload->TakeExtent(), std::move(reply));
}

// False, with nobody told anything, if the update may enter the round.
bool Engine::AnswerIfUnwanted(Job* job, const Upload& upload,
                              const UploadReply& reply) {
  const UploadKey& key = upload.key();
  const absl::Status wanted = job->machine.CheckUpdate(key.round, key.worker);
  if (wanted.ok()) return false;
  // A second stream may have found the update whole, and be heard of only when
  // the version that it is in is published.
  const bool published = IsIncluded(
      key.worker, MakeTaskRef(key.job, TaskId::Kind::kTrain, key.round));
  if (!published && !absl::IsAlreadyExists(wanted)) {
    RefuseUpload(key, std::string(wanted.message()), reply);
    return true;
  }
  const auto it = job->accepted.find(key.worker);
  v1::PushUpdateReply answer;
  answer.set_accepted(
      published || (it != job->accepted.end() &&
                    it->second.digest.ToBytes() == upload.header().digest()));
  if (!answer.accepted()) {
    answer.set_reason("another update of this worker is in the round");
  }
  desk_->Forget(key);
  AfterCommit([reply, answer] { reply(answer); });
  return true;
}

// The update is in the round. `extent`: where it lies from now on; empty if it
// is in the round's running sum.
void Engine::EnterUpdate(Job* job, const Upload& upload,
                         const SpoolExtent& extent, UploadReply reply) {
  const UploadKey& key = upload.key();
  AcceptedRow row;
  row.job = key.job;
  row.round = job->round.round;
  row.task_round = key.round;
  row.worker = key.worker;
  row.digest = *Digest::FromBytes(upload.header().digest());
  row.extent = extent;
  row.metrics = upload.header().metrics();
  desk_->Forget(key);
  job->accepted[key.worker] = row;
  job->excluded.erase(key.worker);
  job->bytes_received += upload.header().size_bytes();
  Mutate(row);
  v1::PushUpdateReply answer;
  answer.set_accepted(true);
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
  if (job == nullptr || TaskRoundOf(job->round, key.worker) != key.round) {
    return;
  }
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
