// The engine's side that carries out what round machines decide.

#include <algorithm>
#include <iterator>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "aggregation/core/staleness.h"
#include "base/log.h"
#include "coordinator/engine/engine.h"

namespace koinon::coordinator {
namespace {

// A failure to write a version for want of disk space is tried again.
constexpr absl::Duration kComputeRetry = absl::Seconds(5);

// Adds the coordinator's own count to what the rule says of each update.
void DescribeStaleness(const Job& job, v1::AggregationReport* report) {
  if (!job.row.spec.has_buffer()) return;
  std::set<WorkerId> described;
  for (const auto& decision : report->updates()) {
    described.insert(decision.worker());
  }
  for (const WorkerId& worker : job.round.included) {
    if (!described.contains(worker)) report->add_updates()->set_worker(worker);
  }
  for (v1::UpdateDecision& decision : *report->mutable_updates()) {
    const int64_t staleness =
        job.round.round - TaskRoundOf(job.round, decision.worker());
    decision.set_staleness(staleness);
    decision.set_discount(
        aggregation::StalenessDiscount(job.row.spec.buffer(), staleness));
  }
}

}  // namespace

void Engine::Perform(Job* job, const Actions& actions) {
  for (const Action& action : actions) {
    std::visit([&](const auto& a) { PerformOne(job, a); }, action);
  }
}

void Engine::PerformOne(Job* job, const OpenRound& action) {
  ForgetUpdates(job);  // of an attempt that is begun from scratch
  const RoundRow before = std::exchange(job->round, RoundRow());
  job->round.job = job->row.spec.name();
  job->round.round = action.round;
  job->round.attempt = action.attempt;
  job->round.cohort_seed = action.cohort_seed;
  job->round.cohort = action.cohort;
  job->round.opened = action.opened;
  job->round.deadline = action.deadline;
  job->round.carried = action.carried;
  ForgetLeftUploads(*job, before);
  job->accepted.clear();
  job->excluded.clear();
  job->bytes_received = 0;
  job->distribution.Clear();
  job->told_of_fetching.clear();
  Mutate(job->round);
  LogInfo("round opened", {{"job", job->round.job},
                           {"round", action.round},
                           {"cohort", action.cohort.size()}});
  for (const WorkerId& worker : action.asked) {
    SendOffer(job->round.job, worker, TaskId::Kind::kTrain, action.round);
  }
  TakeUpWaiting(job->round.job);
  SendStatus(*job);
}

// Of members of the round before whose task is no more; the others of a
// buffered job go on uploading.
void Engine::ForgetLeftUploads(const Job& job, const RoundRow& before) {
  if (!job.row.spec.has_buffer()) return;
  for (const WorkerId& worker : before.cohort) {
    const int64_t task_round = TaskRoundOf(before, worker);
    const absl::Status wanted = job.machine.CheckUpdate(task_round, worker);
    if (wanted.ok()) continue;
    ForgetUpload({before.job, task_round, worker},
                 std::string(wanted.message()));
  }
}

void Engine::ForgetUpload(const UploadKey& key, const std::string& reason) {
  desk_->Forget(key);
  const auto waiting = waiting_.find(key);
  if (waiting == waiting_.end()) return;
  v1::PushUpdateReply answer;
  answer.set_reason(reason);
  AfterCommit([reply = std::move(waiting->second.reply), answer] {
    if (reply) reply(answer);
  });
  waiting_.erase(waiting);
}

// A round is open: what came since the last one closed is judged again, after
// what this batch decides is durable.
void Engine::TakeUpWaiting(const JobId& name) {
  const auto begin = waiting_.lower_bound({name, 0, ""});
  auto end = begin;
  for (; end != waiting_.end() && end->first.job == name; ++end) {
    loop_.Post([this, waiting = std::move(end->second)] {
      AcceptUpload(waiting.upload, waiting.reply);
    });
  }
  waiting_.erase(begin, end);
}

void Engine::PerformOne(Job* job, const ExtendRound& action) {
  RoundRow& round = job->round;
  round.phase = RoundPhase::kOpen;
  round.included.clear();
  round.attempt = action.attempt;
  round.deadline = action.deadline;
  std::vector<WorkerId> cohort;
  std::set_union(round.cohort.begin(), round.cohort.end(), action.added.begin(),
                 action.added.end(), std::back_inserter(cohort));
  round.cohort = std::move(cohort);
  Mutate(round);
  LogInfo("round extended", {{"job", round.job},
                             {"round", round.round},
                             {"attempt", round.attempt},
                             {"added", action.added.size()}});
  for (const WorkerId& worker : action.added) {
    round.carried.erase(worker);  // it has this round's task now
    job->excluded.erase(worker);
    SendOffer(round.job, worker, TaskId::Kind::kTrain, round.round);
  }
  SendStatus(*job);
}

void Engine::PerformOne(Job* job, const OfferTask& action) {
  SendOffer(job->row.spec.name(), action.worker, action.kind, action.round);
}

void Engine::PerformOne(Job* job, const WithdrawTask& action) {
  const JobId& name = job->row.spec.name();
  if (action.kind == TaskId::Kind::kTrain) {
    ForgetUpload({name, action.round, action.worker}, action.reason);
  }
  v1::CoordinatorMessage message;
  v1::WithdrawTask* withdraw = message.mutable_withdraw_task();
  *withdraw->mutable_task() = MakeTaskRef(name, action.kind, action.round);
  withdraw->set_reason(action.reason);
  AfterCommit(
      [this, worker = action.worker, message] { SendTo(worker, message); });
}

void Engine::PerformOne(Job* job, const CloseRound& action) {
  RoundRow& round = job->round;
  round.phase = RoundPhase::kClosed;
  round.included = action.included;
  for (const auto& [worker, reason] : action.excluded) {
    job->excluded[worker] = reason;
  }
  Mutate(round);
  // Those at work on a buffered job may go on uploading.
  if (!job->row.spec.has_buffer()) desk_->ForgetRound(round.job, round.round);
  ComputeRound(job);
  SendStatus(*job);
}

void Engine::ComputeRound(Job* job) {
  RoundInput input;
  input.spec = job->row.spec;
  input.submitted = job->row.submitted;
  input.round = job->round.round;
  input.base = job->head;
  input.base_state = job->state;
  if (job->sum != nullptr) input.sum = job->sum->row;
  for (const WorkerId& worker : job->round.included) {
    const auto it = job->accepted.find(worker);
    if (it != job->accepted.end()) input.updates.push_back(it->second);
  }
  std::set<WorkerId> asked = job->asked;
  asked.insert(job->round.cohort.begin(), job->round.cohort.end());
  input.asked = static_cast<int64_t>(asked.size());
  input.asked_before = static_cast<int64_t>(job->asked.size());
  input.seconds_open = absl::ToDoubleSeconds(clock_->Now() - job->round.opened);
  job->computing = true;
  ++computing_;
  AfterCommit([this, input = std::move(input)] {
    compute_.Post([this, input] {
      PublishedRound published =
          PublishRound(store_, *spool_, &pool_, input, options_.publish);
      while (absl::IsResourceExhausted(published.status) && !draining_) {
        LogError("the new version cannot be written; trying again",
                 {{"job", input.spec.name()}, {"error", published.status}});
        absl::SleepFor(kComputeRetry);
        published =
            PublishRound(store_, *spool_, &pool_, input, options_.publish);
      }
      if (published.status.ok()) Serve(published.manifest);
      loop_.Post([this, name = input.spec.name(), round = input.round,
                  published = std::move(published)] {
        FinishRound(name, round, published);
      });
    });
  });
}

void Engine::FinishRound(const JobId& name, int64_t round,
                         const PublishedRound& published) {
  --computing_;
  Job* job = FindJob(name);
  job->computing = false;
  const absl::Time now = clock_->Now();
  if (job->finished() || job->round.round != round) {
    // Cancelled meanwhile: the version was never published.
    if (published.status.ok()) {
      Withdraw(published.manifest);
      RemovePublished(store_, name, round, published.state).IgnoreError();
    }
    ForgetUpdates(job);
    return;
  }
  if (absl::IsResourceExhausted(published.status)) return;  // stopping
  std::vector<WorkerId> refused;
  for (const aggregation::Refusal& refusal : published.refusals) {
    refused.push_back(refusal.worker);
  }
  LeaveOut(job, published.refusals);
  if (!published.status.ok()) {
    LogError("round cannot be aggregated",
             {{"job", name}, {"round", round}, {"error", published.status}});
    SettleStale(*job);
    ForgetUpdates(job);
    job->needs_tick = true;
    candidates_changed_ = true;
    // Nothing that workers send anew brings back a lost base or its state.
    if (absl::IsDataLoss(published.status) &&
        !aggregation::BlamedWorker(published.status).has_value()) {
      return Perform(job, job->machine.OnFailure(absl::StrCat(
                              "round ", round, " cannot be aggregated: ",
                              published.status.message())));
    }
    return Perform(
        job, job->machine.OnAggregated(now, round, published.status, refused));
  }
  PublishVersion(job, published);
  const Actions actions =
      job->machine.OnAggregated(now, round, absl::OkStatus(), refused);
  job->round.phase = job->machine.snapshot().phase == Phase::kEvaluating
                         ? RoundPhase::kPublished
                         : RoundPhase::kDone;
  Mutate(job->round);
  job->needs_tick = true;
  candidates_changed_ = true;
  Perform(job, actions);
}

// Updates that turned out unusable are not in the version.
void Engine::LeaveOut(Job* job,
                      const std::vector<aggregation::Refusal>& refusals) {
  for (const aggregation::Refusal& refusal : refusals) {
    const std::string reason(refusal.reason.message());
    job->excluded[refusal.worker] = reason;
    std::erase(job->round.included, refusal.worker);
    Settle(refusal.worker,
           MakeTaskRef(job->round.job, TaskId::Kind::kTrain,
                       TaskRoundOf(job->round, refusal.worker)),
           v1::UpdateSettled::NOT_INCLUDED, reason);
  }
}

// The round begins anew: who has this round's task is offered it again, but
// nobody is offered an earlier one's whose update is given up.
void Engine::SettleStale(const Job& job) {
  for (const auto& [worker, row] : job.accepted) {
    if (row.task_round == row.round) continue;
    Settle(worker, MakeTaskRef(row.job, TaskId::Kind::kTrain, row.task_round),
           v1::UpdateSettled::NOT_INCLUDED,
           "the updates of its round could not be aggregated");
  }
}

v1::RoundReport Engine::MakeReport(const Job& job,
                                   const PublishedRound& published) {
  v1::RoundReport report;
  report.set_round(job.round.round);
  report.set_attempts(job.round.attempt);
  report.set_cohort_seed(job.round.cohort_seed);
  report.mutable_cohort()->Assign(job.round.cohort.begin(),
                                  job.round.cohort.end());
  std::map<WorkerId, v1::Metrics> metrics;
  for (const WorkerId& worker : job.round.included) {
    report.add_included(worker);
    const auto accepted = job.accepted.find(worker);
    if (accepted != job.accepted.end()) {
      metrics[worker] = accepted->second.metrics;
      if (metrics[worker].has_communication()) {
        (*report.mutable_communication())[worker] =
            metrics[worker].communication();
      }
    }
  }
  for (const auto& [worker, reason] : job.excluded) {
    v1::RoundReport::Excluded* excluded = report.add_excluded();
    excluded->set_worker(worker);
    excluded->set_reason(reason);
  }
  *report.mutable_training() = Summarize(metrics);
  report.set_model_digest(published.manifest.digest());
  report.set_seconds(absl::ToDoubleSeconds(clock_->Now() - job.round.opened));
  report.set_bytes_received(job.bytes_received);
  if (!job.told_of_fetching.empty()) {
    *report.mutable_distribution() = job.distribution;
  }
  report.set_aggregate_seconds(published.seconds);
  *report.mutable_aggregation() = published.report;
  DescribeStaleness(job, report.mutable_aggregation());
  return report;
}

// With many workers, what was decided about each is most of a report: it is
// kept for the newest rounds only. A buffered job needs it for as long as an
// update may be announced again (IsIncluded).
void Engine::KeepReport(const Job& job, const v1::RoundReport& report) {
  std::map<int64_t, v1::RoundReport>& reports = reports_[job.row.spec.name()];
  reports[report.round()] = report;
  const int64_t kept =
      std::max(kDetailedReports, job.row.spec.buffer().max_staleness() + 1);
  const auto old = reports.find(report.round() - kept);
  if (old != reports.end() && old->second.has_aggregation()) {
    old->second.mutable_aggregation()->clear_updates();
    old->second.clear_communication();
  }
}

void Engine::PublishVersion(Job* job, const PublishedRound& published) {
  const JobId& name = job->row.spec.name();
  for (const WorkerId& worker : job->round.included) {
    Settle(worker,
           MakeTaskRef(name, TaskId::Kind::kTrain,
                       TaskRoundOf(job->round, worker)),
           v1::UpdateSettled::INCLUDED, "");
  }
  job->round.report = MakeReport(*job, published);
  job->last_report = job->round.report;
  CountAsked(job->round.report, job);
  KeepReport(*job, job->round.report);
  DropState(job);
  DropDelta(*job);
  AddVersion(job, published.manifest, published.state);
  ForgetUpdates(job);
  DropOldVersions(job);
  AfterCommit(
      [this, name, manifest = published.manifest, report = job->round.report] {
        LogInfo("round published",
                {{"job", name},
                 {"round", report.round()},
                 {"updates", report.included_size()},
                 {"digest", Digest::FromBytes(manifest.digest())->ToShortHex()},
                 {"seconds", report.seconds()}});
        v1::JobEvent event;
        *event.mutable_round_closed() = report;
        SendEvent(name, std::move(event));
      });
}

// The round's updates are needed no more. Their extents are free once the
// journal has forgotten them.
void Engine::ForgetUpdates(Job* job) {
  std::vector<SpoolExtent> extents = TakeSums(job);
  if (job->accepted.empty() && extents.empty()) return;
  for (const auto& [worker, row] : job->accepted) {
    if (row.extent.size > 0) extents.push_back(row.extent);
  }
  job->accepted.clear();
  Mutate(ForgetAccepted{job->row.spec.name(), job->round.round, ""});
  AfterCommit([this, extents = std::move(extents)] {
    for (const SpoolExtent& extent : extents) spool_->Release(extent);
    AdmitUploads();
  });
}

void Engine::PerformOne(Job* job, const StartEvaluation& action) {
  for (const WorkerId& worker : action.cohort) {
    SendOffer(job->row.spec.name(), worker, TaskId::Kind::kEvaluate,
              action.round);
  }
  SendStatus(*job);
}

void Engine::PerformOne(Job* job, const FinishEvaluation& action) {
  const JobId& name = job->row.spec.name();
  if (!action.metrics.empty()) {
    *job->round.report.mutable_evaluation() = Summarize(action.metrics);
  }
  if (!job->told_of_fetching.empty()) {
    *job->round.report.mutable_distribution() = job->distribution;
  }
  job->round.phase = RoundPhase::kDone;
  job->last_report = job->round.report;
  KeepReport(*job, job->round.report);
  Mutate(job->round);
  job->needs_tick = true;
  candidates_changed_ = true;
  v1::JobEvent event;
  *event.mutable_evaluated() = job->round.report;
  AfterCommit([this, name, event] { SendEvent(name, event); });
}

void Engine::PerformOne(Job* job, const FinishJob& action) {
  job->row.state = action.state;
  job->row.reason = action.reason;
  job->row.finished = clock_->Now();
  Mutate(job->row);
  const JobId& name = job->row.spec.name();
  desk_->ForgetRound(name, job->round.round);
  if (job->row.spec.has_buffer()) {
    ForgetLeftUploads(*job, job->round);
    DropOldVersions(job);
  }
  if (!job->computing) ForgetUpdates(job);
  DropState(job);
  peers_.erase(name);
  candidates_changed_ = true;
  LogInfo("job finished", {{"job", name},
                           {"state", v1::JobState_Name(action.state)},
                           {"reason", action.reason}});
  SendStatus(*job);
  AfterCommit([this, name] {
    const auto [begin, end] = watchers_.equal_range(name);
    for (auto it = begin; it != end; ++it) it->second->Close(absl::OkStatus());
    watchers_.erase(begin, end);
  });
}

void Engine::ComputeInitialModel(Job* job) {
  const v1::JobSpec spec = job->row.spec;
  const absl::Time submitted = job->row.submitted;
  std::shared_ptr<const v1::ModelManifest> initial;
  if (!spec.initial_model().empty()) {
    // Checked at submission: "JOB@VERSION".
    const size_t at = spec.initial_model().rfind('@');
    const auto found =
        catalog_->Find(spec.initial_model().substr(0, at),
                       std::stoll(spec.initial_model().substr(at + 1)));
    if (!found.ok()) {
      return Perform(
          job, job->machine.OnFailure(absl::StrCat(
                   "the initial model is gone: ", found.status().message())));
    }
    initial = *found;
  }
  ++computing_;
  job->computing = true;
  AfterCommit([this, spec, submitted, initial] {
    compute_.Post([this, spec, submitted, initial] {
      auto manifest = PublishInitialModel(store_, spec, submitted,
                                          initial.get(), options_.publish);
      while (absl::IsResourceExhausted(manifest.status()) && !draining_) {
        LogError("the initial model cannot be written; trying again",
                 {{"job", spec.name()}, {"error", manifest.status()}});
        absl::SleepFor(kComputeRetry);
        manifest = PublishInitialModel(store_, spec, submitted, initial.get(),
                                       options_.publish);
      }
      if (manifest.ok()) Serve(*manifest);
      loop_.Post([this, name = spec.name(), manifest = std::move(manifest)] {
        FinishInitialModel(name, manifest);
      });
    });
  });
}

void Engine::FinishInitialModel(const JobId& name,
                                absl::StatusOr<v1::ModelManifest> manifest) {
  --computing_;
  Job* job = FindJob(name);
  job->computing = false;
  if (!manifest.ok()) {
    if (job->finished()) return;
    // Stopping: the next process writes it.
    if (absl::IsResourceExhausted(manifest.status()) && draining_) return;
    return Perform(job, job->machine.OnFailure(absl::StrCat(
                            "the initial model cannot be written: ",
                            manifest.status().message())));
  }
  AddVersion(job, *manifest, {});
  job->needs_tick = true;
  SendStatus(*job);
}

}  // namespace koinon::coordinator
