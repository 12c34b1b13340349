#include "coordinator/round/round_machine.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/check.h"
#include "base/random.h"
#include "coordinator/registry/registry.h"
#include "coordinator/round/early_stop.h"

namespace koinon::coordinator {
namespace {

// The whole life of a job. A round that is tried again with more members stays
// in kTraining.
struct Transition {
  Phase from;
  Phase to;
};
constexpr Transition kTransitions[] = {
    {Phase::kWaiting, Phase::kTraining},      // enough candidates
    {Phase::kTraining, Phase::kAggregating},  // the round closes
    {Phase::kAggregating, Phase::kEvaluating},
    {Phase::kAggregating, Phase::kWaiting},  // no evaluation is due, or retry
    {Phase::kEvaluating, Phase::kWaiting},
    // Cancelled, failed, or done: from anywhere but the end itself.
    {Phase::kWaiting, Phase::kFinished},
    {Phase::kTraining, Phase::kFinished},
    {Phase::kAggregating, Phase::kFinished},
    {Phase::kEvaluating, Phase::kFinished},
};

constexpr TaskId::Kind kTaskKinds[] = {TaskId::Kind::kTrain,
                                       TaskId::Kind::kEvaluate};

bool IsInitial(const RoundMachine::Snapshot& snapshot) {
  return snapshot.phase == Phase::kWaiting && snapshot.round == 1 &&
         snapshot.attempt == 0;
}

}  // namespace

RoundMachine::RoundMachine(v1::JobSpec spec, Snapshot snapshot)
    : spec_(std::move(spec)),
      state_(std::move(snapshot)),
      restored_(!IsInitial(state_)) {
  const int64_t open_next =
      state_.phase == Phase::kEvaluating ? state_.round + 1 : state_.round;
  for (auto it = state_.members.begin(); it != state_.members.end();) {
    auto& [worker, member] = *it;
    if (member.task_round == 0) member.task_round = state_.round;
    if (buffered() && IsPending(member) &&
        !InTime(member.task_round, open_next)) {
      it = state_.members.erase(it);  // was withdrawn, or would be now
      continue;
    }
    if (TasksLive(TaskId::Kind::kTrain) && IsPending(member)) {
      member.state =
          MemberState::kOffered;  // its stream broke with the restart
      unheard_.insert(worker);
    }
    training_.Add(member);
    ++it;
  }
}

// ---- Events ----

Actions RoundMachine::Tick(absl::Time now,
                           absl::Span<const WorkerId> candidates) {
  tick_wanted_ = false;
  candidates_seen_ = candidates.size();
  const bool first = std::exchange(first_tick_, false);
  const bool just_restored = first && restored_;
  if (just_restored) reconnect_until_ = now + kReconnectGrace;
  Actions actions;
  switch (state_.phase) {
    case Phase::kWaiting:
      actions = TickWaiting(now, candidates);
      break;
    case Phase::kTraining:
      actions = TickTraining(now, just_restored, candidates);
      break;
    case Phase::kAggregating:
      if (first) actions.push_back(ClosingAction());
      break;
    case Phase::kEvaluating:
      actions = TickEvaluating(now, candidates);
      break;
    case Phase::kFinished:
      break;
  }
  if (now >= reconnect_until_) reconnect_until_ = absl::InfinitePast();
  return actions;
}

Actions RoundMachine::OnTaskAccepted(absl::Time, int64_t round,
                                     TaskId::Kind kind,
                                     const WorkerId& worker) {
  const Member* member = AtWork(round, kind, worker);
  if (member == nullptr || member->state != MemberState::kOffered) return {};
  Set(kind, worker, Member{MemberState::kTraining, "", {}});
  return {};
}

Actions RoundMachine::OnTaskRefused(absl::Time, int64_t round,
                                    TaskId::Kind kind, const WorkerId& worker,
                                    const std::string& reason) {
  const Member* member = AtWork(round, kind, worker);
  if (member == nullptr || !IsPending(*member)) return {};
  Set(kind, worker, Departed(Departure::kDeclined, reason));
  return AfterDeparture(kind);
}

Actions RoundMachine::OnWorkerLost(absl::Time, const WorkerId& worker,
                                   const std::string& reason) {
  for (TaskId::Kind kind : kTaskKinds) {
    const Member* member = FindLive(kind, worker);
    if (member == nullptr || !IsPending(*member)) continue;
    Set(kind, worker, Departed(Departure::kLost, reason));
    return AfterDeparture(kind);
  }
  return {};
}

Actions RoundMachine::OnWorkerJoined(absl::Time, const WorkerId& worker) {
  for (TaskId::Kind kind : kTaskKinds) {
    const Member* member = FindLive(kind, worker);
    if (member == nullptr || !MayDeliver(*member)) continue;
    const int64_t round = member->task_round;
    Set(kind, worker, Member{});
    return {OfferTask{round, kind, worker}};
  }
  return {};
}

absl::Status RoundMachine::CheckUpdate(int64_t round,
                                       const WorkerId& worker) const {
  const std::string what = absl::StrFormat(
      "update of %s for round %d of job %s", worker, round, spec_.name());
  if (state_.phase == Phase::kFinished) {
    return absl::FailedPreconditionError(
        absl::StrCat(what, ": the job has ended: ", state_.final_reason));
  }
  auto it = state_.members.find(worker);
  if (buffered()) {
    if (it == state_.members.end() || it->second.task_round != round) {
      return absl::FailedPreconditionError(absl::StrFormat(
          "%s: it is no task of this worker (any more); the job is at round "
          "%d, and takes updates for tasks of at most %d rounds before",
          what, state_.round, spec_.buffer().max_staleness()));
    }
  } else if (round != state_.round || state_.phase == Phase::kWaiting) {
    return absl::FailedPreconditionError(
        absl::StrFormat("%s: that round is not open; the job is at round %d",
                        what, state_.round));
  }
  const bool open = state_.phase == Phase::kTraining;
  const bool received =
      it != state_.members.end() && it->second.state == MemberState::kReceived;
  if (received || (!open && Contains(state_.included, worker))) {
    return absl::AlreadyExistsError(
        absl::StrCat(what, ": it is in the round already"));
  }
  if (!open && buffered() && MayDeliver(it->second)) {
    return absl::UnavailableError(
        absl::StrCat(what, ": the next round is not open yet"));
  }
  if (!open) {
    return absl::FailedPreconditionError(
        absl::StrCat(what, ": the round is closed"));
  }
  if (it == state_.members.end()) {
    return absl::FailedPreconditionError(
        absl::StrCat(what, ": the worker is not in this round's cohort"));
  }
  if (MayDeliver(it->second)) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(what, ": the worker left the round: ", it->second.reason));
}

Actions RoundMachine::OnUpdateAccepted(absl::Time, int64_t round,
                                       const WorkerId& worker,
                                       const v1::Metrics& metrics) {
  if (!CheckUpdate(round, worker).ok()) return {};
  Set(TaskId::Kind::kTrain, worker,
      Member{MemberState::kReceived, "", metrics});
  if (TargetMet()) return Close(kNotNeeded);
  if (training_.pending == 0) tick_wanted_ = true;
  return {};
}

Actions RoundMachine::OnAggregated(absl::Time now, int64_t round,
                                   absl::Status status,
                                   absl::Span<const WorkerId> refused) {
  if (state_.phase != Phase::kAggregating || round != state_.round) return {};
  for (const WorkerId& worker : refused) {
    if (!Contains(state_.included, worker)) continue;
    Set(TaskId::Kind::kTrain, worker,
        Departed(Departure::kUnusable, "its update was refused"));
  }
  if (!status.ok()) return RetryFromScratch(now, status);
  state_.included.erase(
      std::remove_if(state_.included.begin(), state_.included.end(),
                     [&](const WorkerId& worker) {
                       return std::find(refused.begin(), refused.end(),
                                        worker) != refused.end();
                     }),
      state_.included.end());
  Actions actions;
  WithdrawLate(&actions);
  if (!EvaluationIsDue()) {
    const Actions rest = CompleteRound();
    actions.insert(actions.end(), rest.begin(), rest.end());
    return actions;
  }
  MoveTo(Phase::kEvaluating);
  tick_wanted_ = true;
  return actions;
}

Actions RoundMachine::OnEvaluated(absl::Time, int64_t round,
                                  const WorkerId& worker,
                                  const v1::Metrics& metrics) {
  const Member* member = AtWork(round, TaskId::Kind::kEvaluate, worker);
  if (member == nullptr || !MayDeliver(*member)) return {};
  Set(TaskId::Kind::kEvaluate, worker,
      Member{MemberState::kReceived, "", metrics});
  if (evaluating_.pending > 0) return {};
  return EndEvaluation("");
}

Actions RoundMachine::OnPause(absl::Time) {
  if (state_.phase != Phase::kFinished) state_.paused = true;
  return {};
}

Actions RoundMachine::OnResume(absl::Time) {
  if (state_.paused) tick_wanted_ = true;
  state_.paused = false;
  return {};
}

Actions RoundMachine::OnCancel(absl::Time, const std::string& reason) {
  if (state_.phase == Phase::kFinished) return {};
  return Finish(v1::CANCELLED, reason);
}

Actions RoundMachine::OnFailure(const std::string& reason) {
  if (state_.phase == Phase::kFinished) return {};
  return Finish(v1::FAILED, reason);
}

// ---- Questions ----

absl::Time RoundMachine::next_deadline() const {
  if (state_.phase == Phase::kFinished) return absl::InfiniteFuture();
  if (tick_wanted_ || first_tick_) return absl::InfinitePast();
  absl::Time next = absl::InfiniteFuture();
  if (state_.phase == Phase::kTraining) {
    next = std::min(state_.deadline, retry_at_);
  } else if (state_.phase == Phase::kWaiting) {
    // A retry looks for workers until a deadline; a new round for ever.
    if (state_.attempt > 0 && !state_.paused) next = state_.deadline;
  } else if (state_.phase == Phase::kEvaluating) {
    next = evaluation_deadline_;
  }
  if (reconnect_until_ != absl::InfinitePast()) {
    next = std::min(next, reconnect_until_);
  }
  return next;
}

std::string RoundMachine::WaitingFor() const {
  if (state_.phase == Phase::kWaiting) {
    if (state_.paused) return "paused";
    if (tick_wanted_ || first_tick_) return "";
    if (candidates_seen_ >= minimum() &&
        reconnect_until_ != absl::InfinitePast()) {
      return "the workers of the last round are given time to come back after "
             "the coordinator's restart";
    }
    return absl::StrFormat(
        "%d of the %d workers that this job needs are connected and free%s",
        candidates_seen_, minimum(), QuoteReasons(state_.members));
  }
  if (state_.phase == Phase::kTraining) {
    if (training_.received + training_.pending >= minimum()) return "";
    return absl::StrFormat(
        "round %d needs %d updates; it has %d, and %d workers are at work%s",
        state_.round, minimum(), training_.received, training_.pending,
        QuoteReasons(state_.members));
  }
  if (state_.phase == Phase::kEvaluating && !evaluation_started_ &&
      !tick_wanted_ && !first_tick_) {
    return absl::StrFormat("no worker is free to evaluate version %d",
                           state_.round);
  }
  return "";
}

bool RoundMachine::IsBusy(const WorkerId& worker) const {
  for (TaskId::Kind kind : kTaskKinds) {
    const Member* member = FindLive(kind, worker);
    if (member != nullptr && IsPending(*member)) return true;
  }
  return false;
}

bool RoundMachine::IsAtWork(int64_t round, TaskId::Kind kind,
                            const WorkerId& worker) const {
  const Member* member = AtWork(round, kind, worker);
  return member != nullptr && IsPending(*member);
}

std::optional<int64_t> RoundMachine::OldestTaskRound() const {
  std::optional<int64_t> oldest;
  if (!TasksLive(TaskId::Kind::kTrain)) return oldest;
  for (const auto& [worker, member] : state_.members) {
    if (!MayDeliver(member)) continue;
    oldest = std::min(oldest.value_or(member.task_round), member.task_round);
  }
  return oldest;
}

// ---- Small things ----

void RoundMachine::MoveTo(Phase to) {
  const bool legal =
      std::any_of(std::begin(kTransitions), std::end(kTransitions),
                  [&](const Transition& t) {
                    return t.from == state_.phase && t.to == to;
                  });
  KOINON_CHECK(legal);
  state_.phase = to;
}

void RoundMachine::Ask(TaskId::Kind kind, const WorkerId& worker) {
  Set(kind, worker, Member{});
  Members& members =
      kind == TaskId::Kind::kTrain ? state_.members : evaluators_;
  members[worker].task_round = state_.round;
}

void RoundMachine::Set(TaskId::Kind kind, const WorkerId& worker,
                       Member member) {
  const bool train = kind == TaskId::Kind::kTrain;
  Members& members = train ? state_.members : evaluators_;
  Tally& tally = train ? training_ : evaluating_;
  auto [it, inserted] = members.try_emplace(worker);
  if (!inserted) tally.Remove(it->second);
  member.task_round = inserted ? state_.round : it->second.task_round;
  it->second = std::move(member);
  tally.Add(it->second);
  if (train) unheard_.erase(worker);
}

void RoundMachine::ClearEvaluators() {
  evaluators_.clear();
  evaluating_ = Tally();
}

size_t RoundMachine::minimum() const {
  return static_cast<size_t>(std::max<int64_t>(1, spec_.cohort().minimum()));
}

size_t RoundMachine::CohortLimit() const {
  if (spec_.cohort().target() <= 0) return std::numeric_limits<size_t>::max();
  const double factor = std::max(1.0, spec_.cohort().over_selection());
  // Without the small term, 10 * 1.1 would ask for 12.
  constexpr double kRounding = 1e-9;
  return static_cast<size_t>(
      std::ceil(spec_.cohort().target() * factor - kRounding));
}

bool RoundMachine::AttemptsExhausted() const {
  return state_.attempt > spec_.cohort().retries();
}

absl::Time RoundMachine::RoundDeadline(absl::Time now) const {
  return now + absl::Seconds(spec_.cohort().deadline_seconds());
}

bool RoundMachine::AwaitsReturn(absl::Time now,
                                absl::Span<const WorkerId> candidates) const {
  return now < reconnect_until_ &&
         !std::includes(candidates.begin(), candidates.end(),
                        state_.included.begin(), state_.included.end());
}

const Member* RoundMachine::FindLive(TaskId::Kind kind,
                                     const WorkerId& worker) const {
  if (!TasksLive(kind)) return nullptr;
  auto it = MembersOf(kind).find(worker);
  return it == MembersOf(kind).end() ? nullptr : &it->second;
}

const Member* RoundMachine::AtWork(int64_t round, TaskId::Kind kind,
                                   const WorkerId& worker) const {
  const Member* member = FindLive(kind, worker);
  return member == nullptr || member->task_round != round ? nullptr : member;
}

void RoundMachine::RetainMembers(absl::FunctionRef<bool(const Member&)> keep) {
  training_ = Tally();
  std::erase_if(state_.members,
                [&](const auto& entry) { return !keep(entry.second); });
  for (const auto& [worker, member] : state_.members) training_.Add(member);
}

// ---- What buffered rounds do differently ----

bool RoundMachine::TasksLive(TaskId::Kind kind) const {
  if (kind == TaskId::Kind::kEvaluate) {
    return state_.phase == Phase::kEvaluating;
  }
  if (buffered()) return state_.phase != Phase::kFinished;
  return state_.phase == Phase::kTraining;
}

bool RoundMachine::InTime(int64_t task_round, int64_t round) const {
  const int64_t allowed = buffered() ? spec_.buffer().max_staleness() : 0;
  return round <= spec_.rounds() && round - task_round <= allowed;
}

bool RoundMachine::IsCarried(const Member& member, int64_t round) const {
  return buffered() && MayDeliver(member) && InTime(member.task_round, round);
}

size_t RoundMachine::InPlay() const {
  return training_.pending + (buffered() ? 0 : training_.received);
}

size_t RoundMachine::PlacesToFill() const {
  if (spec_.cohort().target() > 0) {
    return static_cast<size_t>(spec_.cohort().target());
  }
  return buffered() ? std::numeric_limits<size_t>::max() : minimum();
}

void RoundMachine::WithdrawLate(Actions* actions) {
  if (!buffered()) return;
  const std::string reason =
      state_.round >= spec_.rounds()
          ? "the job's last round is over"
          : absl::StrFormat("staler than the %d versions that this job allows",
                            spec_.buffer().max_staleness());
  const Members members = state_.members;
  for (const auto& [worker, member] : members) {
    if (!MayDeliver(member) || InTime(member.task_round, state_.round + 1)) {
      continue;
    }
    Set(TaskId::Kind::kTrain, worker, Departed(Departure::kDeclined, reason));
    if (!IsPending(member)) continue;
    actions->push_back(
        WithdrawTask{member.task_round, TaskId::Kind::kTrain, worker, reason});
  }
}

const Members& RoundMachine::MembersOf(TaskId::Kind kind) const {
  return kind == TaskId::Kind::kTrain ? state_.members : evaluators_;
}

Actions RoundMachine::AfterDeparture(TaskId::Kind kind) {
  if (kind == TaskId::Kind::kEvaluate && evaluating_.pending == 0) {
    return EndEvaluation("");
  }
  tick_wanted_ = true;
  return {};
}

}  // namespace koinon::coordinator
