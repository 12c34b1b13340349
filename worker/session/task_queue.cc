#include "worker/session/task_queue.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/digest.h"
#include "base/status_macros.h"

namespace koinon::worker {
namespace {

// The driver reports trouble of its own (a full disk) under codes other than
// these, so that only what the network may mend is tried again.
bool MayPass(const absl::Status& status) {
  return status.code() == absl::StatusCode::kUnavailable ||
         status.code() == absl::StatusCode::kDeadlineExceeded ||
         status.code() == absl::StatusCode::kAborted;
}

std::string Describe(const absl::Status& status) {
  return absl::StrCat(absl::StatusCodeToString(status.code()), ": ",
                      status.message());
}

bool AnyBytes(const v1::SwarmTraffic& traffic) {
  return traffic.from_peers() > 0 || traffic.from_origin() > 0 ||
         traffic.wasted() > 0;
}

absl::Status CheckDataset(const TaskId& task, const v1::OfferTask& offer,
                          const v1::Capabilities& capabilities) {
  for (const auto& dataset : capabilities.datasets()) {
    if (dataset.name() != offer.dataset()) continue;
    const bool train = task.kind == TaskId::Kind::kTrain;
    const int64_t examples =
        train ? dataset.examples() : dataset.held_out_examples();
    if (examples > 0) return absl::OkStatus();
    return absl::FailedPreconditionError(
        absl::StrCat("dataset ", offer.dataset(), " has no ",
                     train ? "training" : "held-out", " examples here"));
  }
  std::vector<std::string> known;
  for (const auto& dataset : capabilities.datasets()) {
    known.push_back(dataset.name());
  }
  return absl::NotFoundError(
      absl::StrCat("unknown dataset ", offer.dataset(),
                   "; this worker has: ", absl::StrJoin(known, ", ")));
}

absl::Status CheckTrainer(const v1::OfferTask& offer,
                          const v1::Capabilities& capabilities) {
  const std::string& wanted = offer.training().external_trainer();
  // "native" names the kernels that every worker has.
  if (wanted.empty() || wanted == "native") return absl::OkStatus();
  const auto& known = capabilities.external_trainers();
  if (std::find(known.begin(), known.end(), wanted) != known.end()) {
    return absl::OkStatus();
  }
  return absl::NotFoundError(
      absl::StrCat("unknown external trainer ", wanted,
                   "; this worker has: ", absl::StrJoin(known, ", ")));
}

}  // namespace

absl::Status TaskQueue::CheckOffer(const TaskId& task,
                                   const v1::OfferTask& offer) const {
  if (offer.base_digest().size() != Digest::kSizeBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("offer of ", task.ToString(), ": base digest of ",
                     offer.base_digest().size(), " bytes, expected 32"));
  }
  ABSL_RETURN_IF_ERROR(CheckDataset(task, offer, options_.capabilities));
  ABSL_RETURN_IF_ERROR(CheckTrainer(offer, options_.capabilities));
  if (options_.check_offer != nullptr) return options_.check_offer(offer);
  return absl::OkStatus();
}

absl::Status TaskQueue::MakeRoom(const TaskId& task, const v1::OfferTask& offer,
                                 Outbox& out) {
  for (const Task& other : tasks_) {
    if (other.id.kind != task.kind) continue;
    const bool older_round =
        other.id.job == task.job && other.id.round < task.round;
    const bool other_base =
        other.id == task && other.offer.base_digest() != offer.base_digest();
    const bool orphaned = other.session != out.session();
    if (!older_round && !other_base && !orphaned) {
      return absl::ResourceExhaustedError(
          absl::StrCat("busy with ", other.id.ToString()));
    }
    Drop(other.run, out);
    return absl::OkStatus();
  }
  return absl::OkStatus();
}

void TaskQueue::OnOffer(absl::Time now, const TaskId& task,
                        const v1::OfferTask& offer, Outbox& out) {
  v1::WorkerMessage answer;
  if (last_evaluation_.has_value() && last_evaluation_->id == task &&
      last_evaluation_->base_digest == offer.base_digest()) {
    *answer.mutable_evaluation_done() = last_evaluation_->done;
    last_evaluation_->sent = out.Send(std::move(answer));
    return;
  }
  Task* current = FindTask(task);
  const bool repeated =
      current != nullptr && current->offer.base_digest() == offer.base_digest();
  absl::Status status;
  if (!repeated) status = CheckOffer(task, offer);
  if (status.ok() && !repeated) status = MakeRoom(task, offer, out);
  if (!status.ok()) {
    *answer.mutable_refuse_task()->mutable_task() = offer.task();
    answer.mutable_refuse_task()->set_reason(std::string(status.message()));
    out.Send(std::move(answer));
    return;
  }
  if (!repeated) {
    tasks_.push_back(Task());
    current = &tasks_.back();
    current->run = ++last_run_;
    current->id = task;
    current->offer = offer;
  }
  current->session = *out.session();
  current->deadline = now + absl::Seconds(offer.deadline_seconds());
  *answer.mutable_accept_task()->mutable_task() = offer.task();
  out.Send(std::move(answer));
}

void TaskQueue::OnWithdrawn(const TaskId& task, Outbox& out) {
  const Task* found = FindTask(task);
  if (found != nullptr) Drop(found->run, out);
}

void TaskQueue::OnWelcome(Outbox& out) {
  if (!last_evaluation_.has_value() || last_evaluation_->sent) return;
  v1::WorkerMessage message;
  *message.mutable_evaluation_done() = last_evaluation_->done;
  last_evaluation_->sent = out.Send(std::move(message));
}

void TaskQueue::OnFetched(absl::Time now, uint64_t run,
                          const absl::StatusOr<v1::SwarmTraffic>& fetched,
                          Outbox& out) {
  if (fetching_ == run) fetching_.reset();
  Task* task = FindRun(run);
  if (task == nullptr || task->stage != Stage::kFetching) return;
  if (fetched.ok()) {
    task->stage = Stage::kReady;
    if (!AnyBytes(*fetched)) return;
    task->fetched = *fetched;
    SendProgress(*task, 0, 0, out);
    return;
  }
  if (!MayPass(fetched.status()) || now >= task->deadline) {
    Fail(run, fetched.status(), out);
    return;
  }
  task->stage = Stage::kWaiting;
  task->fetch_at =
      now + options_.backoff.Delay(++task->fetch_failures, random_);
}

void TaskQueue::OnProgress(absl::Time now, uint64_t run, double fraction,
                           double loss, Outbox& out) {
  Task* task = FindRun(run);
  if (task == nullptr || task->stage != Stage::kRunning) return;
  if (now < task->last_progress + options_.progress_interval) return;
  if (SendProgress(*task, fraction, loss, out)) task->last_progress = now;
}

bool TaskQueue::SendProgress(Task& task, double fraction, double loss,
                             Outbox& out) {
  v1::WorkerMessage message;
  auto* progress = message.mutable_task_progress();
  *progress->mutable_task() = task.offer.task();
  progress->set_fraction(
      std::isfinite(fraction) ? std::clamp(fraction, 0.0, 1.0) : 0.0);
  progress->set_loss(loss);
  if (task.fetched.has_value()) *progress->mutable_fetched() = *task.fetched;
  if (!out.Send(std::move(message))) return false;
  task.fetched.reset();
  return true;
}

std::optional<v1::UpdateHeader> TaskQueue::OnTrained(
    uint64_t run, const absl::StatusOr<v1::UpdateHeader>& result, Outbox& out) {
  if (running_ == run) running_.reset();
  if (!result.ok()) {
    if (FindRun(run) != nullptr) Fail(run, result.status(), out);
    return std::nullopt;
  }
  const Task* task = FindRun(run);
  const absl::StatusOr<TaskId> id = TaskIdFromRef(result->task());
  if (task == nullptr && id.ok()) {
    // Withdrawn while it trained. If the coordinator has changed its mind
    // since, the same bytes need not be computed twice.
    task = FindTask(*id);
    if (task != nullptr && task->offer.base_digest() != result->base_digest()) {
      task = nullptr;
    }
  }
  if (task == nullptr) {
    if (id.ok()) out.Do(ForgetUpdate{*id, "withdrawn while it was trained"});
    return std::nullopt;
  }
  Drop(task->run, out);
  return *result;
}

void TaskQueue::OnEvaluated(uint64_t run,
                            const absl::StatusOr<v1::Metrics>& result,
                            Outbox& out) {
  if (running_ == run) running_.reset();
  const Task* task = FindRun(run);
  if (task == nullptr) return;
  if (!result.ok()) {
    Fail(run, result.status(), out);
    return;
  }
  Evaluation evaluation;
  evaluation.id = task->id;
  evaluation.base_digest = task->offer.base_digest();
  *evaluation.done.mutable_task() = task->offer.task();
  evaluation.done.set_version(task->offer.base_version());
  *evaluation.done.mutable_metrics() = *result;
  v1::WorkerMessage message;
  *message.mutable_evaluation_done() = evaluation.done;
  evaluation.sent = out.Send(std::move(message));
  last_evaluation_ = std::move(evaluation);
  Drop(run, out);
}

void TaskQueue::Pump(absl::Time now, Outbox& out) {
  for (Task& task : tasks_) {
    if (task.stage == Stage::kWaiting && !fetching_.has_value() &&
        now >= task.fetch_at) {
      task.stage = Stage::kFetching;
      fetching_ = task.run;
      out.Do(FetchModel{task.run, task.offer});
    }
    if (task.stage == Stage::kReady && !running_.has_value()) {
      task.stage = Stage::kRunning;
      running_ = task.run;
      out.Do(RunTask{task.run, task.offer});
    }
  }
}

void TaskQueue::StopAll(Outbox& out) {
  while (!tasks_.empty()) Drop(tasks_.back().run, out);
}

absl::Time TaskQueue::next_deadline() const {
  absl::Time next = absl::InfiniteFuture();
  if (fetching_.has_value()) return next;
  for (const Task& task : tasks_) {
    if (task.stage == Stage::kWaiting) next = std::min(next, task.fetch_at);
  }
  return next;
}

bool TaskQueue::Has(const TaskId& task) const {
  return std::any_of(tasks_.begin(), tasks_.end(),
                     [&](const Task& t) { return t.id == task; });
}

TaskQueue::Task* TaskQueue::FindRun(uint64_t run) {
  for (Task& task : tasks_) {
    if (task.run == run) return &task;
  }
  return nullptr;
}

TaskQueue::Task* TaskQueue::FindTask(const TaskId& id) {
  for (Task& task : tasks_) {
    if (task.id == id) return &task;
  }
  return nullptr;
}

void TaskQueue::Drop(uint64_t run, Outbox& out) {
  if (fetching_ == run) out.Do(CancelFetch{run});
  if (running_ == run) out.Do(StopTask{run});
  out.Do(EndTask{run});
  std::erase_if(tasks_, [&](const Task& task) { return task.run == run; });
}

void TaskQueue::Fail(uint64_t run, const absl::Status& status, Outbox& out) {
  v1::WorkerMessage message;
  *message.mutable_task_failed()->mutable_task() = FindRun(run)->offer.task();
  message.mutable_task_failed()->set_reason(Describe(status));
  out.Send(std::move(message));
  Drop(run, out);
}

}  // namespace koinon::worker
