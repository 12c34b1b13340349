#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/random.h"
#include "base/status_matchers.h"
#include "coordinator/round/round_machine.h"

// A whole federation around the round machine, driven at random: workers that
// come, go, refuse and deliver, events that repeat or belong elsewhere, pauses,
// cancels, failed aggregations, and crashes of the coordinator at any step,
// after which the machine is made again from what was durable. The rules that
// must hold whatever happens are checked at each step. The same for synchronous
// and for buffered rounds.

namespace koinon::coordinator {
namespace {

constexpr auto kTrain = TaskId::Kind::kTrain;
constexpr auto kEvaluate = TaskId::Kind::kEvaluate;
constexpr uint64_t kSeeds = 10'000;
constexpr int kSteps = 120;

// What the driver's journal would hold.
struct RoundRecord {
  enum Phase { kOpen, kClosed, kPublished, kDone } phase = kOpen;
  int64_t attempt = 1;
  uint64_t cohort_seed = 0;
  absl::Time opened;
  absl::Time deadline;
  std::set<WorkerId> cohort;
  std::map<WorkerId, int64_t> carried;
  std::vector<WorkerId> included;

  int64_t TaskRoundOf(const WorkerId& worker, int64_t round) const {
    auto it = carried.find(worker);
    return it == carried.end() ? round : it->second;
  }
};
struct Accepted {
  v1::Metrics metrics;
  int64_t task_round = 0;
};
struct Durable {
  bool paused = false;
  std::map<int64_t, RoundRecord> rounds;
  std::map<int64_t, std::map<WorkerId, Accepted>> accepted;
  std::map<int64_t, double> metric_history;
  std::optional<FinishJob> end;
};

// How often what a schedule should also reach was reached.
struct Reached {
  int stale = 0;      // updates in a round later than their task's
  int withdrawn = 0;  // tasks between rounds
  int waited = 0;     // updates that came while no round was open
};

struct Rates {
  uint64_t crash = 0;    // one in so many chances; 0: never
  bool disturb = false;  // losses, refusals, strange events, ...
};

class Federation {
 public:
  Federation(uint64_t seed, v1::JobSpec spec, int workers, Rates rates)
      : random_(seed), spec_(std::move(spec)), rates_(rates) {
    for (int i = 0; i < workers; ++i) all_.push_back(absl::StrCat("w", i));
    machine_.emplace(spec_, Recover());
  }

  void RunAtRandom(int steps) {
    for (int i = 0; i < steps && Alive(); ++i) Step();
  }
  // No more faults; everybody is there: the job must come to its end.
  void Heal();

  bool Alive() const { return broken_.empty() && !durable_.end.has_value(); }
  const std::string& broken() const { return broken_; }
  const std::string& log() const { return log_; }
  const Durable& durable() const { return durable_; }
  const std::set<std::string>& rounds_log() const { return rounds_log_; }
  const Reached& reached() const { return reached_; }

 private:
  void Step();
  void Disturb();
  RoundMachine::Snapshot Recover() const;
  void Crash();
  bool MaybeCrash() {
    if (rates_.crash == 0 || random_.NextBelow(rates_.crash) != 0) return false;
    Crash();
    return true;
  }
  void Perform(const Actions& actions);
  void Tick() {
    ticked_with_ = Candidates();
    Perform(machine_->Tick(now_, ticked_with_));
  }
  bool TickIsDue() const {
    return machine_->next_deadline() <= now_ || Candidates() != ticked_with_;
  }
  void Join(const WorkerId& worker) {
    if (connected_.insert(worker).second) {
      Perform(machine_->OnWorkerJoined(now_, worker));
    }
  }
  void DoTask(const WorkerId& worker);
  void Deliver(int64_t round, const WorkerId& worker);
  void FinishAggregation(bool ok);

  void On(const OpenRound& action);
  void On(const ExtendRound& action);
  void On(const OfferTask& action);
  void On(const WithdrawTask& action);
  void On(const CloseRound& action);
  void On(const StartEvaluation& action);
  void On(const FinishEvaluation& action);
  void On(const FinishJob& action);

  void Expect(bool condition, const std::string& rule) {
    if (!condition && broken_.empty()) broken_ = rule;
  }
  int64_t CurrentRound() const {
    return durable_.rounds.empty() ? 0 : durable_.rounds.rbegin()->first;
  }
  bool IsCurrent(int64_t round, RoundRecord::Phase phase) const {
    return round == CurrentRound() && durable_.rounds.at(round).phase == phase;
  }
  std::vector<WorkerId> Candidates() const {
    return {connected_.begin(), connected_.end()};
  }
  const WorkerId& AnyWorker() { return all_[random_.NextBelow(all_.size())]; }
  v1::Metrics AnyMetrics() {
    v1::Metrics metrics;
    metrics.set_examples(1 + random_.NextBelow(100));
    metrics.set_accuracy(random_.NextDouble());
    metrics.set_has_accuracy(true);
    return metrics;
  }
  void Offer(int64_t round, TaskId::Kind kind, const WorkerId& worker) {
    if (connected_.count(worker) > 0) tasks_[worker] = {round, kind};
  }
  bool buffered() const { return spec_.has_buffer(); }
  bool IsPendingNow(const WorkerId& worker) const {
    const auto& members = machine_->snapshot().members;
    auto it = members.find(worker);
    return it != members.end() && IsPending(it->second);
  }

  Random random_;
  const v1::JobSpec spec_;
  Rates rates_;
  std::vector<WorkerId> all_;
  absl::Time now_ = absl::FromUnixSeconds(1'000'000);
  Durable durable_;
  std::optional<RoundMachine> machine_;
  std::set<WorkerId> connected_;
  // What workers believe that they have to do; outlives the coordinator.
  std::map<WorkerId, std::pair<int64_t, TaskId::Kind>> tasks_;
  bool aggregating_ = false;
  std::vector<WorkerId> ticked_with_;
  std::string broken_;
  std::string log_;
  std::set<std::string> rounds_log_;  // cohorts and members, crash or not
  Reached reached_;
  // Tasks whose updates are in a published version.
  std::set<std::pair<int64_t, WorkerId>> taken_;
};

RoundMachine::Snapshot Federation::Recover() const {
  RoundMachine::Snapshot snapshot;
  snapshot.paused = durable_.paused;
  snapshot.metric_history = durable_.metric_history;
  if (durable_.rounds.empty()) return snapshot;
  const auto& [round, record] = *durable_.rounds.rbegin();
  snapshot.included = record.included;
  const bool done = record.phase == RoundRecord::kDone;
  if (!done || buffered()) {
    for (const WorkerId& worker : record.cohort) {
      snapshot.members[worker].task_round = record.TaskRoundOf(worker, round);
    }
    for (const WorkerId& worker : record.included) {
      snapshot.members[worker].state = MemberState::kReceived;
    }
  }
  if (done) {
    snapshot.round = round + 1;
    for (const WorkerId& worker : record.included) {
      snapshot.members.erase(worker);
    }
    return snapshot;
  }
  snapshot.round = round;
  snapshot.attempt = record.attempt;
  snapshot.cohort_seed = record.cohort_seed;
  snapshot.opened = record.opened;
  snapshot.deadline = record.deadline;
  snapshot.phase = record.phase == RoundRecord::kOpen     ? Phase::kTraining
                   : record.phase == RoundRecord::kClosed ? Phase::kAggregating
                                                          : Phase::kEvaluating;
  auto accepted = durable_.accepted.find(round);
  if (accepted != durable_.accepted.end()) {
    for (const auto& [worker, update] : accepted->second) {
      RoundMachine::Member& member = snapshot.members[worker];
      member.state = MemberState::kReceived;
      member.metrics = update.metrics;
      member.task_round = update.task_round;
    }
  }
  return snapshot;
}

void Federation::Crash() {
  absl::StrAppend(&log_, "crash;");
  connected_.clear();
  aggregating_ = false;
  if (durable_.end.has_value()) return;
  machine_.emplace(spec_, Recover());
}

// Each action is durable or not at all; a crash loses the rest.
void Federation::Perform(const Actions& actions) {
  for (const Action& action : actions) {
    if (MaybeCrash()) return;
    Expect(!durable_.end.has_value(), "an action after the job's end");
    std::visit([this](const auto& a) { On(a); }, action);
  }
  if (!actions.empty()) MaybeCrash();
}

void Federation::On(const OpenRound& open) {
  absl::StrAppend(&log_, "open ", open.round, "/", open.attempt, " ",
                  absl::StrJoin(open.cohort, ","), ";");
  if (open.attempt == 1) {
    Expect(open.round == CurrentRound() + 1, "rounds follow one another");
    Expect(open.round == 1 ||
               durable_.rounds[open.round - 1].phase >= RoundRecord::kPublished,
           "the round before is published");
    rounds_log_.insert(
        absl::StrCat(open.round, " asks ", absl::StrJoin(open.cohort, ",")));
  } else {
    Expect(IsCurrent(open.round, RoundRecord::kClosed),
           "a round starts again only after a failed aggregation");
    Expect(open.attempt > durable_.rounds[open.round].attempt, "attempts grow");
  }
  const size_t minimum = spec_.cohort().minimum();
  const size_t target = spec_.cohort().target();
  Expect(open.cohort.size() >= minimum, "the cohort has the minimum");
  Expect(target == 0 || open.asked.size() <=
                            std::ceil(target * spec_.cohort().over_selection()),
         "the cohort is not over-selected further than asked");
  Expect(buffered() || (open.asked == open.cohort && open.carried.empty()),
         "only buffered rounds carry members on");
  for (const auto& [worker, round] : open.carried) {
    Expect(round < open.round &&
               open.round - round <= spec_.buffer().max_staleness(),
           "no task is carried on that could only be too stale");
  }
  Expect(std::is_sorted(open.cohort.begin(), open.cohort.end()),
         "cohorts ascend");
  RoundRecord record;
  record.attempt = open.attempt;
  record.cohort_seed = open.cohort_seed;
  record.opened = open.opened;
  record.deadline = open.deadline;
  record.cohort = {open.cohort.begin(), open.cohort.end()};
  record.carried = open.carried;
  durable_.rounds[open.round] = record;
  durable_.accepted.erase(open.round);
  for (const WorkerId& worker : open.asked) {
    Expect(record.cohort.count(worker) > 0, "who is asked is in the cohort");
    Expect(record.carried.count(worker) == 0, "who has a task is not asked");
    Expect(connected_.count(worker) > 0, "only candidates are asked");
    Offer(open.round, kTrain, worker);
  }
}

void Federation::On(const ExtendRound& extend) {
  absl::StrAppend(&log_, "extend ", extend.round, "/", extend.attempt, " ",
                  absl::StrJoin(extend.added, ","), ";");
  Expect(IsCurrent(extend.round, RoundRecord::kOpen),
         "only the open round is extended");
  RoundRecord& record = durable_.rounds[extend.round];
  Expect(extend.attempt >= record.attempt, "attempts do not fall");
  Expect(extend.attempt <= spec_.cohort().retries() + 1,
         "no more attempts than allowed");
  record.attempt = extend.attempt;
  record.deadline = extend.deadline;
  for (const WorkerId& worker : extend.added) {
    Expect(connected_.count(worker) > 0, "only candidates are added");
    Expect(durable_.accepted[extend.round].count(worker) == 0,
           "who has delivered is not asked again");
    record.cohort.insert(worker);
    record.carried.erase(worker);
    Offer(extend.round, kTrain, worker);
  }
}

void Federation::On(const OfferTask& offer) {
  absl::StrAppend(&log_, "offer ", offer.round, " ", offer.worker, ";");
  const RoundRecord& record = durable_.rounds[CurrentRound()];
  if (offer.kind == kEvaluate) {
    Expect(IsCurrent(offer.round, RoundRecord::kPublished),
           "offers are for the open task");
  } else {
    Expect(buffered() || record.phase == RoundRecord::kOpen,
           "offers are for the open task");
    Expect(record.cohort.count(offer.worker) > 0, "offers go to members");
    Expect(offer.round == record.TaskRoundOf(offer.worker, CurrentRound()),
           "a task is offered again as the one that it is");
    Expect(durable_.accepted[CurrentRound()].count(offer.worker) == 0 &&
               taken_.count({offer.round, offer.worker}) == 0,
           "an accepted update is not trained again");
  }
  Offer(offer.round, offer.kind, offer.worker);
}

void Federation::On(const WithdrawTask& withdraw) {
  absl::StrAppend(&log_, "withdraw ", withdraw.worker, ";");
  const RoundRecord& record = durable_.rounds[CurrentRound()];
  Expect(withdraw.round ==
             (withdraw.kind == kTrain
                  ? record.TaskRoundOf(withdraw.worker, CurrentRound())
                  : CurrentRound()),
         "withdrawals name their round");
  if (buffered() && withdraw.kind == kTrain) ++reached_.withdrawn;
  tasks_.erase(withdraw.worker);
}

void Federation::On(const CloseRound& close) {
  absl::StrAppend(&log_, "close ", close.round, " ",
                  absl::StrJoin(close.included, ","), ";");
  Expect(close.round == CurrentRound(), "only the current round closes");
  RoundRecord& record = durable_.rounds[close.round];
  Expect(record.phase <= RoundRecord::kClosed, "a round is published once");
  Expect(close.included.size() >= static_cast<size_t>(spec_.cohort().minimum()),
         "a round closes with its minimum");
  std::vector<WorkerId> accepted;  // ascending
  for (const auto& [worker, update] : durable_.accepted[close.round]) {
    accepted.push_back(worker);
  }
  if (buffered() && record.phase == RoundRecord::kOpen) {
    const auto size = static_cast<size_t>(spec_.buffer().size());
    Expect(close.included.size() <= size, "a buffer holds its size at most");
    const auto& members = machine_->snapshot().members;
    const bool somebody_left =
        std::any_of(members.begin(), members.end(),
                    [](const auto& entry) { return IsPending(entry.second); });
    Expect(close.included.size() == size || !somebody_left ||
               now_ >= record.deadline,
           "a buffer closes early for its deadline, or when nobody is left");
  }
  Expect(close.included == accepted, "included are exactly the accepted (I1)");
  for (const WorkerId& worker : record.cohort) {
    Expect(std::binary_search(close.included.begin(), close.included.end(),
                              worker) ||
               close.excluded.count(worker) > 0,
           "every member is included or has a reason");
  }
  if (record.phase == RoundRecord::kClosed) {
    Expect(record.included == close.included, "closing again changes nothing");
  }
  record.phase = RoundRecord::kClosed;
  record.included = close.included;
  rounds_log_.insert(
      absl::StrCat(close.round, " takes ", absl::StrJoin(close.included, ",")));
  aggregating_ = true;
}

void Federation::On(const StartEvaluation& start) {
  absl::StrAppend(&log_, "evaluate ", start.round, ";");
  Expect(IsCurrent(start.round, RoundRecord::kPublished),
         "only a published version is evaluated");
  for (const WorkerId& worker : start.cohort) {
    Expect(!buffered() || !IsPendingNow(worker),
           "who is at work is not asked to evaluate");
    Offer(start.round, kEvaluate, worker);
  }
}

void Federation::On(const FinishEvaluation& finish) {
  absl::StrAppend(&log_, "evaluated ", finish.round, " by ",
                  finish.metrics.size(), ";");
  Expect(IsCurrent(finish.round, RoundRecord::kPublished),
         "a version is evaluated once");
  durable_.rounds[finish.round].phase = RoundRecord::kDone;
  const auto& history = machine_->snapshot().metric_history;
  auto metric = history.find(finish.round);
  Expect((metric != history.end()) ==
             (!finish.metrics.empty() && !spec_.stop().metric().empty()),
         "the metric to stop by is remembered");
  if (metric != history.end()) durable_.metric_history.insert(*metric);
}

void Federation::On(const FinishJob& finish) {
  absl::StrAppend(&log_, "finish ", finish.state, " ", finish.reason, ";");
  Expect(!finish.reason.empty(), "an end has a reason");
  if (finish.state == v1::SUCCEEDED && spec_.stop().metric().empty()) {
    Expect(CurrentRound() == spec_.rounds(), "success is all rounds");
  }
  durable_.end = finish;
}

// The update that answers the worker's task of `task_round`.
void Federation::Deliver(int64_t task_round, const WorkerId& worker) {
  const absl::Status check = machine_->CheckUpdate(task_round, worker);
  const int64_t round = CurrentRound();
  const auto& in_round = durable_.accepted[round];
  const auto in = in_round.find(worker);
  const bool is_in =
      (in != in_round.end() && in->second.task_round == task_round) ||
      taken_.count({task_round, worker}) > 0;
  if (absl::IsAlreadyExists(check)) {
    Expect(
        is_in || std::count(durable_.rounds[round].included.begin(),
                            durable_.rounds[round].included.end(), worker) > 0,
        "ALREADY_EXISTS means that it is in");
    tasks_.erase(worker);
  }
  if (absl::IsUnavailable(check)) {
    Expect(buffered() && !IsCurrent(round, RoundRecord::kOpen),
           "only an update of a buffered job waits, and not while a round is "
           "open");
    Expect(IsPendingNow(worker) || connected_.count(worker) == 0,
           "who waits for a round has a task");
    ++reached_.waited;
  }
  if (!check.ok()) {
    Expect(absl::IsAlreadyExists(check) || absl::IsFailedPrecondition(check) ||
               absl::IsUnavailable(check),
           "CheckUpdate has four answers");
    // Nothing else may move if the event comes nevertheless.
    Perform(machine_->OnUpdateAccepted(now_, task_round, worker, AnyMetrics()));
    return;
  }
  const RoundRecord& record = durable_.rounds[round];
  Expect(!is_in, "an update is accepted once (I2)");
  Expect(in == in_round.end(), "a worker has one update in a round");
  Expect(IsCurrent(round, RoundRecord::kOpen),
         "no update enters a round that is not open");
  Expect(record.cohort.count(worker) > 0,
         "no update of a stranger is accepted");
  Expect(record.TaskRoundOf(worker, round) == task_round,
         "an update answers the task that the worker has");
  const int64_t allowed = buffered() ? spec_.buffer().max_staleness() : 0;
  Expect(round - task_round <= allowed, "no update is staler than allowed");
  if (round > task_round) ++reached_.stale;
  const v1::Metrics metrics = AnyMetrics();
  durable_.accepted[round][worker] = {metrics, task_round};
  tasks_.erase(worker);
  absl::StrAppend(&log_, "accept ", task_round, " ", worker, ";");
  if (MaybeCrash()) return;
  Perform(machine_->OnUpdateAccepted(now_, task_round, worker, metrics));
}

void Federation::DoTask(const WorkerId& worker) {
  auto task = tasks_.find(worker);
  if (task == tasks_.end() || connected_.count(worker) == 0) return;
  const auto [round, kind] = task->second;
  if (kind == kTrain) {
    Deliver(round, worker);
    return;
  }
  tasks_.erase(task);
  Perform(machine_->OnEvaluated(now_, round, worker, AnyMetrics()));
}

void Federation::FinishAggregation(bool ok) {
  if (!aggregating_) return;
  aggregating_ = false;
  const int64_t round = CurrentRound();
  RoundRecord& record = durable_.rounds[round];
  std::vector<WorkerId> refused;
  if (rates_.disturb && random_.NextBelow(4) == 0 &&
      (!ok || record.included.size() > 1)) {
    refused.push_back(
        record.included[random_.NextBelow(record.included.size())]);
  }
  if (!ok) {
    Perform(machine_->OnAggregated(
        now_, round, absl::FailedPreconditionError("cannot"), refused));
    return;
  }
  Expect(record.phase == RoundRecord::kClosed, "one version per round (I4)");
  record.phase = RoundRecord::kPublished;
  for (const WorkerId& worker : record.included) {
    if (std::count(refused.begin(), refused.end(), worker) > 0) continue;
    const int64_t task = durable_.accepted[round][worker].task_round;
    Expect(taken_.insert({task, worker}).second,
           "an update is in one version only");
  }
  durable_.accepted.erase(round);
  absl::StrAppend(&log_, "publish ", round, ";");
  if (MaybeCrash()) return;
  const Actions actions =
      machine_->OnAggregated(now_, round, absl::OkStatus(), refused);
  if (machine_->snapshot().phase != Phase::kEvaluating) {
    record.phase = RoundRecord::kDone;
  }
  Perform(actions);
}

// Things that should not happen, or should not matter.
void Federation::Disturb() {
  const WorkerId worker = AnyWorker();
  const int64_t round = CurrentRound() + random_.NextBelow(4) - 2;
  const TaskId::Kind kind = random_.NextBelow(2) == 0 ? kTrain : kEvaluate;
  switch (random_.NextBelow(10)) {
    case 0:
      connected_.erase(worker);
      tasks_.erase(worker);  // it was killed
      Perform(machine_->OnWorkerLost(now_, worker, "lease ran out"));
      break;
    case 1:
      connected_.erase(worker);  // it goes on working, unreachable
      Perform(machine_->OnWorkerLost(now_, worker, "lease ran out"));
      break;
    case 2:
      Perform(machine_->OnTaskRefused(now_, round, kind, worker, "no"));
      break;
    case 3:
      Deliver(round, worker);
      break;
    case 4:
      Perform(machine_->OnEvaluated(now_, round, worker, AnyMetrics()));
      break;
    case 5:
      Perform(machine_->OnTaskAccepted(now_, round, kind, "stranger"));
      Perform(machine_->OnWorkerLost(now_, "stranger", "x"));
      break;
    case 6:
      FinishAggregation(false);
      break;
    case 7:
      durable_.paused = true;
      Perform(machine_->OnPause(now_));
      break;
    case 8:
      durable_.paused = false;
      Perform(machine_->OnResume(now_));
      break;
    case 9:
      if (random_.NextBelow(50) == 0) {
        Perform(machine_->OnCancel(now_, "by a user"));
      }
      break;
  }
}

void Federation::Step() {
  const int64_t round_before = machine_->snapshot().round;
  if (rates_.disturb && random_.NextBelow(4) == 0) {
    Disturb();
  } else {
    switch (random_.NextBelow(6)) {
      case 0:
        Join(AnyWorker());
        break;
      case 1:
        DoTask(AnyWorker());
        break;
      case 2: {
        const WorkerId& worker = AnyWorker();
        auto task = tasks_.find(worker);
        const int64_t round =
            task == tasks_.end() ? CurrentRound() : task->second.first;
        Perform(machine_->OnTaskAccepted(now_, round, kTrain, worker));
        break;
      }
      case 3:
        if (rates_.disturb || random_.NextBelow(2) == 0) {
          now_ += absl::Seconds(random_.NextBelow(rates_.disturb ? 40 : 2));
        }
        break;
      case 4:
        FinishAggregation(true);
        break;
      case 5:
        break;
    }
  }
  if (!Alive()) return;
  // As the driver does: what is due at once is done at once, or a crash later.
  for (int i = 0; i < 20 && Alive() && TickIsDue(); ++i) {
    Tick();
    Expect(i < 19, "the machine keeps asking for ticks");
  }
  if (!Alive()) return;
  Expect(machine_->snapshot().round >= std::min(round_before, CurrentRound()),
         "rounds do not fall (I3)");
}

void Federation::Heal() {
  rates_ = {};
  durable_.paused = false;
  if (!Alive()) return;
  Perform(machine_->OnResume(now_));
  for (int i = 0; i < 20'000 && Alive(); ++i) {
    for (const WorkerId& worker : all_) {
      if (Alive()) Join(worker);
    }
    for (int ticks = 0; Alive() && TickIsDue(); ++ticks) {
      Tick();
      Expect(ticks < 20, "the machine keeps asking for ticks");
      if (!broken_.empty()) return;
    }
    const std::string before = log_;
    for (const WorkerId& worker : all_) {
      if (Alive()) DoTask(worker);
    }
    if (Alive()) FinishAggregation(true);
    if (!Alive() || log_ != before || TickIsDue()) {
      continue;
    }
    const absl::Time next = machine_->next_deadline();
    Expect(next != absl::InfiniteFuture(),
           absl::StrCat("the job is stuck: ", machine_->WaitingFor()));
    now_ = next;
  }
  Expect(durable_.end.has_value(), "the job ends once all is well");
}

enum class Mode { kSynchronous, kBuffered };

v1::JobSpec AnySpec(Random* random, int workers, Mode mode) {
  v1::JobSpec spec;
  spec.set_name("digits");
  spec.set_rounds(1 + random->NextBelow(4));
  spec.set_seed(random->NextUint64());
  auto* cohort = spec.mutable_cohort();
  cohort->set_minimum(1 + random->NextBelow(workers));
  if (random->NextBelow(3) > 0) {
    cohort->set_target(cohort->minimum() +
                       random->NextBelow(workers - cohort->minimum() + 2));
  }
  cohort->set_over_selection(1 + 0.5 * random->NextBelow(3));
  if (mode == Mode::kBuffered) {
    cohort->set_over_selection(1);
    const int64_t most = cohort->target() > 0 ? cohort->target() : workers + 1;
    v1::BufferSpec* buffer = spec.mutable_buffer();
    buffer->set_size(cohort->minimum() +
                     random->NextBelow(most - cohort->minimum() + 1));
    buffer->set_max_staleness(random->NextBelow(4));
    spec.set_rounds(1 + random->NextBelow(8));
  }
  cohort->set_deadline_seconds(20 + random->NextBelow(200));
  cohort->set_retries(1 + random->NextBelow(4));
  auto* evaluation = spec.mutable_evaluation();
  evaluation->set_every_rounds(static_cast<int64_t>(random->NextBelow(4)) - 1);
  if (evaluation->every_rounds() == 0) evaluation->set_every_rounds(1);
  evaluation->set_deadline_seconds(10 + random->NextBelow(100));
  if (evaluation->every_rounds() > 0 && random->NextBelow(2) == 0) {
    spec.mutable_stop()->set_metric("accuracy");
    spec.mutable_stop()->set_threshold(0.8);
    spec.mutable_stop()->set_patience(random->NextBelow(3));
  }
  return spec;
}

Federation RunSeed(uint64_t seed, Mode mode) {
  Random random(DeriveSeed(seed, "spec"));
  const int workers = 1 + random.NextBelow(7);
  const v1::JobSpec spec = AnySpec(&random, workers, mode);
  const Rates rates = {.crash = random.NextBelow(3) == 0 ? 0u : 12u,
                       .disturb = random.NextBelow(5) > 0};
  Federation federation(seed, spec, workers, rates);
  federation.RunAtRandom(kSteps);
  return federation;
}

class RoundMachinePropertyTest : public ::testing::TestWithParam<Mode> {};
INSTANTIATE_TEST_SUITE_P(Modes, RoundMachinePropertyTest,
                         ::testing::Values(Mode::kSynchronous, Mode::kBuffered),
                         [](const auto& info) {
                           return info.param == Mode::kBuffered ? "Buffered"
                                                                : "Synchronous";
                         });

TEST_P(RoundMachinePropertyTest, RandomSchedules_EveryRuleHoldsAndTheJobEnds) {
  std::map<v1::JobState, int> ends;
  Reached reached;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    Federation federation = RunSeed(seed, GetParam());
    federation.Heal();
    ASSERT_EQ(federation.broken(), "")
        << "seed " << seed << ": " << federation.log();
    ++ends[federation.durable().end->state];
    reached.stale += federation.reached().stale;
    reached.withdrawn += federation.reached().withdrawn;
    reached.waited += federation.reached().waited;
  }
  // The schedules reach every kind of end, or the test would prove little.
  EXPECT_GT(ends[v1::SUCCEEDED], static_cast<int>(kSeeds / 10));
  EXPECT_GT(ends[v1::FAILED], static_cast<int>(kSeeds / 100));
  EXPECT_GT(ends[v1::CANCELLED], static_cast<int>(kSeeds / 100));
  const int least = GetParam() == Mode::kBuffered ? kSeeds / 10 : 0;
  EXPECT_GE(reached.stale, least);
  EXPECT_GE(reached.withdrawn, least);
  EXPECT_GE(reached.waited, least);
}

TEST_P(RoundMachinePropertyTest, SameSeed_SameActions) {
  for (uint64_t seed = 0; seed < kSeeds / 20; ++seed) {
    EXPECT_EQ(RunSeed(seed, GetParam()).log(), RunSeed(seed, GetParam()).log())
        << "seed " << seed;
  }
}

// With a cohort of everybody, crashes change neither who is asked nor whose
// updates a version is made of; and a buffer of everybody changes neither.
TEST_P(RoundMachinePropertyTest, Crashes_ChangeNoRound) {
  constexpr int kWorkers = 4;
  v1::JobSpec spec;
  spec.set_name("digits");
  spec.set_rounds(4);
  spec.set_seed(7);
  spec.mutable_cohort()->set_minimum(kWorkers);
  spec.mutable_cohort()->set_over_selection(1);
  spec.mutable_cohort()->set_deadline_seconds(1'000);
  spec.mutable_cohort()->set_retries(3);
  spec.mutable_evaluation()->set_every_rounds(2);
  spec.mutable_evaluation()->set_deadline_seconds(1'000);
  Federation calm(0, spec, kWorkers, {});
  calm.Heal();
  ASSERT_EQ(calm.broken(), "");
  ASSERT_EQ(calm.rounds_log().size(), 8u);
  if (GetParam() == Mode::kBuffered) spec.mutable_buffer()->set_size(kWorkers);
  int crashes = 0;
  for (uint64_t seed = 1; seed <= 500; ++seed) {
    Federation crashed(seed, spec, kWorkers, {.crash = 6});
    crashed.RunAtRandom(300);
    crashed.Heal();
    ASSERT_EQ(crashed.broken(), "") << "seed " << seed;
    EXPECT_EQ(crashed.rounds_log(), calm.rounds_log()) << "seed " << seed;
    if (crashed.log().find("crash") != std::string::npos) ++crashes;
  }
  EXPECT_GT(crashes, 400);
}

}  // namespace
}  // namespace koinon::coordinator
