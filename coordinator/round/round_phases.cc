#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/random.h"
#include "coordinator/registry/registry.h"
#include "coordinator/round/early_stop.h"
#include "coordinator/round/round_machine.h"

// What the round machine decides in each phase. Its events are in
// round_machine.cc.

namespace koinon::coordinator {

// ---- Opening and replacing ----

Actions RoundMachine::TickWaiting(absl::Time now,
                                  absl::Span<const WorkerId> candidates) {
  const bool between_rounds = state_.attempt == 0 && state_.round > 1;
  if (between_rounds) {
    // Only after a restart: the round before ended, the job's end was not
    // journalled.
    const std::string reason = ReasonToStop(state_.round - 1);
    if (!reason.empty()) {
      --state_.round;
      return Finish(v1::SUCCEEDED, reason);
    }
  }
  if (state_.paused || AwaitsReturn(now, candidates)) return {};
  const std::vector<WorkerId> fresh = NotMembers(candidates, state_.members);
  const size_t available = fresh.size() + training_.pending;
  if (available >= minimum()) return Open(now, fresh);
  if (state_.attempt == 0 || now < state_.deadline) return {};
  // A retry did not find enough workers in time.
  ++state_.attempt;
  if (AttemptsExhausted()) {
    return FailRound(
        absl::StrFormat("only %d of the %d workers that it needs "
                        "are connected and free",
                        available, minimum()));
  }
  state_.deadline = RoundDeadline(now);
  return {};
}

Actions RoundMachine::Open(absl::Time now,
                           absl::Span<const WorkerId> eligible) {
  MoveTo(Phase::kTraining);
  ++state_.attempt;
  state_.cohort_seed =
      DeriveSeed(spec_.seed(),
                 absl::StrFormat("cohort/%d/%d", state_.round, state_.attempt));
  state_.opened = now;
  state_.deadline = RoundDeadline(now);
  state_.included.clear();
  retry_at_ = absl::InfiniteFuture();
  if (!unheard_.empty()) tick_wanted_ = true;  // may have been given up
  OpenRound open{.round = state_.round,
                 .attempt = state_.attempt,
                 .cohort_seed = state_.cohort_seed,
                 .cohort = {},
                 .opened = now,
                 .deadline = state_.deadline,
                 .asked = {}};
  std::vector<WorkerId> at_work;  // ascending
  for (const auto& [worker, member] : state_.members) {
    if (!IsCarried(member, state_.round)) continue;
    at_work.push_back(worker);
    if (member.task_round < state_.round) {
      open.carried[worker] = member.task_round;
    }
  }
  const size_t places = CohortLimit() - std::min(CohortLimit(), InPlay());
  open.asked = SampleCohort(eligible, places, state_.cohort_seed);
  for (const WorkerId& worker : open.asked) Ask(TaskId::Kind::kTrain, worker);
  std::merge(at_work.begin(), at_work.end(), open.asked.begin(),
             open.asked.end(), std::back_inserter(open.cohort));
  return {std::move(open)};
}

Actions RoundMachine::TickTraining(absl::Time now, bool just_restored,
                                   absl::Span<const WorkerId> candidates) {
  if (TargetMet()) return Close(kNotNeeded);
  Actions actions;
  if (just_restored && state_.deadline < now + kReconnectGrace) {
    // The deadline fell into the coordinator's absence, which is no fault of
    // the workers: no attempt is lost over it.
    state_.deadline = RoundDeadline(now);
    actions.push_back(
        ExtendRound{state_.round, state_.attempt, {}, state_.deadline});
  }
  if (now >= reconnect_until_) LoseTheUnheard(candidates);
  if (now >= state_.deadline) {
    if (training_.received >= minimum()) {
      return Close("no update by the round's deadline");
    }
    return NextAttempt(now, candidates);
  }
  Replace(candidates, &actions);
  if (training_.pending > 0) {
    retry_at_ = absl::InfiniteFuture();
    return actions;
  }
  if (training_.received >= minimum()) return Close("");
  // Nobody is left to wait for. If there are workers that may be asked again,
  // do so after a pause: what made them decline may pass.
  if (Askable(candidates, state_.members).empty()) {
    retry_at_ = absl::InfiniteFuture();
  } else if (retry_at_ == absl::InfiniteFuture()) {
    retry_at_ = now + kRetryPause;
  } else if (now >= retry_at_) {
    return NextAttempt(now, candidates);
  }
  return actions;
}

void RoundMachine::LoseTheUnheard(absl::Span<const WorkerId> candidates) {
  for (const WorkerId& worker : std::exchange(unheard_, {})) {
    if (Contains(candidates, worker)) continue;
    Set(TaskId::Kind::kTrain, worker,
        Departed(Departure::kLost,
                 "did not come back after the coordinator's restart"));
  }
}

void RoundMachine::Replace(absl::Span<const WorkerId> candidates,
                           Actions* actions) {
  if (InPlay() >= PlacesToFill()) return;
  const std::vector<WorkerId> fresh = NotMembers(candidates, state_.members);
  if (fresh.empty()) return;
  // The number of members so far makes each draw of an attempt its own, also
  // after a restart.
  const uint64_t seed = DeriveSeed(
      spec_.seed(), absl::StrFormat("cohort/%d/%d/%d", state_.round,
                                    state_.attempt, state_.members.size()));
  const size_t limit =
      spec_.cohort().target() > 0 ? CohortLimit() : PlacesToFill();
  std::vector<WorkerId> added = SampleCohort(fresh, limit - InPlay(), seed);
  for (const WorkerId& worker : added) Ask(TaskId::Kind::kTrain, worker);
  actions->push_back(ExtendRound{state_.round, state_.attempt, std::move(added),
                                 state_.deadline});
}

// Those who missed the deadline stay members and may still deliver, but are not
// counted on: so many others are asked as if they were not there.
Actions RoundMachine::NextAttempt(absl::Time now,
                                  absl::Span<const WorkerId> candidates) {
  if (AttemptsExhausted()) {
    return FailRound(absl::StrFormat("%d of the %d updates that it needs came",
                                     training_.received, minimum()));
  }
  ++state_.attempt;
  state_.deadline = RoundDeadline(now);
  retry_at_ = absl::InfiniteFuture();
  const uint64_t seed =
      DeriveSeed(spec_.seed(),
                 absl::StrFormat("cohort/%d/%d", state_.round, state_.attempt));
  const size_t wanted = CohortLimit() - training_.received;
  std::vector<WorkerId> added =
      SampleCohort(NotMembers(candidates, state_.members), wanted, seed);
  for (const WorkerId& worker : SampleCohort(
           Askable(candidates, state_.members), wanted - added.size(), seed)) {
    added.push_back(worker);
  }
  std::sort(added.begin(), added.end());
  for (const WorkerId& worker : added) Ask(TaskId::Kind::kTrain, worker);
  return {ExtendRound{state_.round, state_.attempt, std::move(added),
                      state_.deadline}};
}

// ---- Closing and aggregating ----

bool RoundMachine::TargetMet() const {
  if (buffered()) {
    return training_.received >= static_cast<size_t>(spec_.buffer().size());
  }
  if (spec_.cohort().target() > 0) {
    return training_.received >= static_cast<size_t>(spec_.cohort().target());
  }
  return training_.pending == 0 && training_.received >= minimum();
}

Actions RoundMachine::Close(const std::string& why_without) {
  MoveTo(Phase::kAggregating);
  state_.deadline = absl::InfiniteFuture();
  retry_at_ = absl::InfiniteFuture();
  state_.included.clear();
  for (const auto& [worker, member] : state_.members) {
    if (member.state == MemberState::kReceived) {
      state_.included.push_back(worker);
    }
  }
  Actions withdrawals;
  if (!buffered()) {
    WithdrawPending(TaskId::Kind::kTrain, why_without, &withdrawals);
  }
  Actions actions = {ClosingAction()};
  actions.insert(actions.end(), withdrawals.begin(), withdrawals.end());
  return actions;
}

CloseRound RoundMachine::ClosingAction() const {
  CloseRound close{state_.round, state_.included, {}};
  for (const auto& [worker, member] : state_.members) {
    if (Contains(state_.included, worker)) continue;
    close.excluded[worker] = !member.reason.empty() ? member.reason
                             : buffered() ? "at work when the round closed"
                                          : "no update before the round closed";
  }
  return close;
}

Actions RoundMachine::RetryFromScratch(absl::Time now,
                                       const absl::Status& status) {
  if (AttemptsExhausted()) {
    return FailRound(absl::StrCat("the updates could not be aggregated: ",
                                  status.message()));
  }
  MoveTo(Phase::kWaiting);
  RetainMembers([&](const Member& member) {
    return member.departure == Departure::kUnusable ||
           IsCarried(member, state_.round);
  });
  state_.included.clear();
  state_.deadline = RoundDeadline(now);  // to find enough workers
  tick_wanted_ = true;
  return {};
}

// ---- Evaluating ----

bool RoundMachine::EvaluationIsDue() const {
  const int64_t every = spec_.evaluation().every_rounds();
  if (every < 0) return false;
  if (state_.round >= spec_.rounds() || every == 0) return true;
  return state_.round % every == 0;
}

Actions RoundMachine::TickEvaluating(absl::Time now,
                                     absl::Span<const WorkerId> candidates) {
  if (evaluation_started_) {
    if (now < evaluation_deadline_) return {};
    return EndEvaluation("no answer by the evaluation's deadline");
  }
  // After a restart the driver may not know that none is due.
  if (!EvaluationIsDue()) return CompleteRound();
  if (AwaitsReturn(now, candidates)) return {};
  if (evaluation_deadline_ == absl::InfiniteFuture()) {
    evaluation_deadline_ =
        now + absl::Seconds(spec_.evaluation().deadline_seconds());
  }
  std::vector<WorkerId> idle(candidates.begin(), candidates.end());
  if (buffered()) idle = NotPending(candidates, state_.members);
  if (idle.empty()) {
    // Those at work on a buffered job would wait for nothing.
    const bool at_work = buffered() && training_.pending > 0;
    if (now < evaluation_deadline_ && !at_work) return {};
    return EndEvaluation("");
  }
  evaluation_started_ = true;
  for (const WorkerId& worker : idle) Ask(TaskId::Kind::kEvaluate, worker);
  return {StartEvaluation{state_.round, std::move(idle), evaluation_deadline_}};
}

Actions RoundMachine::EndEvaluation(const std::string& why_without) {
  FinishEvaluation finish{state_.round, {}};
  for (const auto& [worker, member] : evaluators_) {
    if (member.state == MemberState::kReceived) {
      finish.metrics[worker] = member.metrics;
    }
  }
  if (!spec_.stop().metric().empty()) {
    const std::optional<double> metric =
        FederatedMetric(finish.metrics, spec_.stop().metric());
    if (metric.has_value()) state_.metric_history[state_.round] = *metric;
  }
  Actions actions = {std::move(finish)};
  WithdrawPending(TaskId::Kind::kEvaluate, why_without, &actions);
  Actions rest = CompleteRound();
  actions.insert(actions.end(), rest.begin(), rest.end());
  return actions;
}

// ---- Ends ----

Actions RoundMachine::CompleteRound() {
  ClearEvaluators();
  evaluation_started_ = false;
  evaluation_deadline_ = absl::InfiniteFuture();
  const std::string reason = ReasonToStop(state_.round);
  if (!reason.empty()) return Finish(v1::SUCCEEDED, reason);
  MoveTo(Phase::kWaiting);
  ++state_.round;
  state_.attempt = 0;
  RetainMembers(
      [&](const Member& member) { return IsCarried(member, state_.round); });
  state_.deadline = absl::InfiniteFuture();
  tick_wanted_ = true;
  return {};
}

std::string RoundMachine::ReasonToStop(int64_t last_round) const {
  const auto& history = state_.metric_history;
  if (!history.empty() && history.rbegin()->first == last_round) {
    const std::string early = EarlyStopReason(spec_.stop(), history);
    if (!early.empty()) return early;
  }
  if (last_round < spec_.rounds()) return "";
  return absl::StrFormat("all %d rounds are done", spec_.rounds());
}

Actions RoundMachine::FailRound(const std::string& what) {
  return Finish(v1::FAILED, absl::StrFormat("round %d: %s, in %d attempts%s",
                                            state_.round, what, state_.attempt,
                                            QuoteReasons(state_.members)));
}

Actions RoundMachine::Finish(v1::JobState state, const std::string& reason) {
  Actions actions;
  const std::string why = absl::StrCat("the job has ended: ", reason);
  for (TaskId::Kind kind : {TaskId::Kind::kTrain, TaskId::Kind::kEvaluate}) {
    if (TasksLive(kind)) WithdrawPending(kind, why, &actions);
  }
  MoveTo(Phase::kFinished);
  state_.final_state = state;
  state_.final_reason = reason;
  state_.paused = false;
  actions.push_back(FinishJob{state, reason});
  return actions;
}

void RoundMachine::WithdrawPending(TaskId::Kind kind, const std::string& reason,
                                   Actions* actions) {
  const Members members = MembersOf(kind);
  for (const auto& [worker, member] : members) {
    if (!IsPending(member)) continue;
    Set(kind, worker, Departed(Departure::kDeclined, reason));
    actions->push_back(WithdrawTask{member.task_round, kind, worker, reason});
  }
}

}  // namespace koinon::coordinator
