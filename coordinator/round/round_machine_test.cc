#include "coordinator/round/round_machine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status_matchers.h"

namespace koinon::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using Snapshot = RoundMachine::Snapshot;

constexpr auto kTrain = TaskId::Kind::kTrain;
constexpr auto kEvaluate = TaskId::Kind::kEvaluate;
const absl::Time kStart = absl::FromUnixSeconds(1'000'000);

v1::JobSpec MakeSpec(int64_t target, int64_t minimum) {
  v1::JobSpec spec;
  spec.set_name("digits");
  spec.set_rounds(2);
  spec.set_seed(7);
  spec.mutable_cohort()->set_target(target);
  spec.mutable_cohort()->set_minimum(minimum);
  spec.mutable_cohort()->set_over_selection(1);
  spec.mutable_cohort()->set_deadline_seconds(100);
  spec.mutable_cohort()->set_retries(2);
  spec.mutable_evaluation()->set_every_rounds(-1);
  spec.mutable_evaluation()->set_deadline_seconds(50);
  return spec;
}

std::vector<WorkerId> Workers(int n) {
  std::vector<WorkerId> workers;
  for (int i = 0; i < n; ++i) workers.push_back(absl::StrCat("w", i));
  return workers;
}

v1::Metrics MakeMetrics(double accuracy) {
  v1::Metrics metrics;
  metrics.set_examples(10);
  metrics.set_accuracy(accuracy);
  metrics.set_has_accuracy(true);
  return metrics;
}

template <typename T>
std::vector<T> All(const Actions& actions) {
  std::vector<T> found;
  for (const Action& action : actions) {
    if (const T* t = std::get_if<T>(&action)) found.push_back(*t);
  }
  return found;
}

// The only action of its type; the test fails if there is none or several.
template <typename T>
T Only(const Actions& actions) {
  const std::vector<T> found = All<T>(actions);
  EXPECT_EQ(found.size(), 1u);
  return found.empty() ? T() : found.front();
}

class RoundMachineTest : public ::testing::Test {
 protected:
  RoundMachine Make(v1::JobSpec spec) { return RoundMachine(spec, Snapshot()); }
  Actions Deliver(RoundMachine* machine, const WorkerId& worker) {
    return machine->OnUpdateAccepted(now_, machine->snapshot().round, worker,
                                     MakeMetrics(0.5));
  }
  Actions Aggregate(RoundMachine* machine) {
    return machine->OnAggregated(now_, machine->snapshot().round,
                                 absl::OkStatus(), {});
  }

  absl::Time now_ = kStart;
};

// ---- Opening ----

TEST_F(RoundMachineTest, Tick_FewerThanMinimum_WaitsAndSaysFor) {
  RoundMachine machine = Make(MakeSpec(5, 3));
  EXPECT_EQ(machine.next_deadline(), absl::InfinitePast());
  EXPECT_THAT(machine.Tick(now_, Workers(2)), IsEmpty());
  EXPECT_EQ(machine.snapshot().phase, Phase::kWaiting);
  EXPECT_EQ(machine.next_deadline(), absl::InfiniteFuture());
  EXPECT_EQ(machine.WaitingFor(),
            "2 of the 3 workers that this job needs are connected and free");
}

TEST_F(RoundMachineTest, Tick_MinimumThere_OpensWithAllUpToTheTarget) {
  RoundMachine machine = Make(MakeSpec(5, 3));
  const auto open = Only<OpenRound>(machine.Tick(now_, Workers(4)));
  EXPECT_EQ(open.round, 1);
  EXPECT_EQ(open.attempt, 1);
  EXPECT_EQ(open.cohort, Workers(4));
  EXPECT_EQ(open.opened, now_);
  EXPECT_EQ(open.deadline, now_ + absl::Seconds(100));
  EXPECT_EQ(machine.next_deadline(), open.deadline);
  EXPECT_EQ(machine.WaitingFor(), "");
  EXPECT_TRUE(machine.IsBusy("w0"));
}

TEST_F(RoundMachineTest, Tick_OverSelection_AsksTheCeilingOfTheProduct) {
  v1::JobSpec spec = MakeSpec(10, 1);
  spec.mutable_cohort()->set_over_selection(1.1);  // 11, not 12
  EXPECT_THAT(Only<OpenRound>(Make(spec).Tick(now_, Workers(40))).cohort,
              SizeIs(11));
  spec.mutable_cohort()->set_over_selection(1.25);  // 12.5
  EXPECT_THAT(Only<OpenRound>(Make(spec).Tick(now_, Workers(40))).cohort,
              SizeIs(13));
}

TEST_F(RoundMachineTest, Tick_NoTarget_AsksEveryCandidate) {
  RoundMachine machine = Make(MakeSpec(0, 1));
  EXPECT_EQ(Only<OpenRound>(machine.Tick(now_, Workers(40))).cohort,
            Workers(40));
}

TEST_F(RoundMachineTest, Cohort_SameSeed_IsTheSameAndDiffersByRound) {
  const auto first =
      Only<OpenRound>(Make(MakeSpec(5, 1)).Tick(now_, Workers(40)));
  EXPECT_EQ(
      Only<OpenRound>(Make(MakeSpec(5, 1)).Tick(now_, Workers(40))).cohort,
      first.cohort);
  Snapshot second;
  second.round = 2;
  const auto next = Only<OpenRound>(
      RoundMachine(MakeSpec(5, 1), second).Tick(now_, Workers(40)));
  EXPECT_NE(next.cohort_seed, first.cohort_seed);
  EXPECT_NE(next.cohort, first.cohort);
}

// ---- Closing ----

TEST_F(RoundMachineTest, Target_Reached_ClosesAtOnceAndWithdrawsTheRest) {
  v1::JobSpec spec = MakeSpec(2, 1);
  spec.mutable_cohort()->set_over_selection(1.5);
  RoundMachine machine = Make(spec);
  machine.Tick(now_, Workers(3));
  EXPECT_THAT(Deliver(&machine, "w2"), IsEmpty());
  const Actions actions = Deliver(&machine, "w0");
  ASSERT_TRUE(std::holds_alternative<CloseRound>(actions.front()));
  const auto close = Only<CloseRound>(actions);
  EXPECT_THAT(close.included, ElementsAre("w0", "w2"));
  EXPECT_THAT(close.excluded.at("w1"), HasSubstr("target was reached"));
  EXPECT_EQ(Only<WithdrawTask>(actions).worker, "w1");
  EXPECT_EQ(machine.snapshot().phase, Phase::kAggregating);
  EXPECT_FALSE(machine.IsBusy("w1"));
}

TEST_F(RoundMachineTest, NoTarget_ClosesWhenAllThatAreNotGoneHaveSent) {
  RoundMachine machine = Make(MakeSpec(0, 1));
  machine.Tick(now_, Workers(3));
  machine.OnWorkerLost(now_, "w1", "lease ran out");
  Deliver(&machine, "w0");
  EXPECT_THAT(Only<CloseRound>(Deliver(&machine, "w2")).included,
              ElementsAre("w0", "w2"));
}

TEST_F(RoundMachineTest, BelowTarget_NobodyLeft_ClosesAtTheNextTick) {
  RoundMachine machine = Make(MakeSpec(3, 1));
  machine.Tick(now_, Workers(2));
  Deliver(&machine, "w0");
  EXPECT_THAT(Deliver(&machine, "w1"), IsEmpty());
  EXPECT_EQ(machine.next_deadline(), absl::InfinitePast());
  EXPECT_THAT(Only<CloseRound>(machine.Tick(now_, Workers(2))).included,
              SizeIs(2));
}

TEST_F(RoundMachineTest, Deadline_WithMinimum_ClosesWithoutTheStragglers) {
  RoundMachine machine = Make(MakeSpec(3, 1));
  machine.Tick(now_, Workers(3));
  Deliver(&machine, "w0");
  now_ = machine.next_deadline();
  const Actions actions = machine.Tick(now_, Workers(3));
  EXPECT_THAT(Only<CloseRound>(actions).included, ElementsAre("w0"));
  EXPECT_THAT(Only<CloseRound>(actions).excluded.at("w1"),
              HasSubstr("deadline"));
  EXPECT_THAT(All<WithdrawTask>(actions), SizeIs(2));
}

TEST_F(RoundMachineTest, Deadline_BelowMinimum_AsksOthersThenFails) {
  RoundMachine machine = Make(MakeSpec(2, 2));
  machine.Tick(now_, Workers(2));
  Deliver(&machine, "w0");
  now_ = machine.next_deadline();
  const auto extend = Only<ExtendRound>(machine.Tick(now_, Workers(5)));
  EXPECT_EQ(extend.attempt, 2);
  EXPECT_THAT(extend.added, SizeIs(1));  // the straggler is not counted on
  EXPECT_EQ(extend.deadline, now_ + absl::Seconds(100));
  EXPECT_OK(machine.CheckUpdate(1, "w1"));  // but may still deliver
  now_ = machine.next_deadline();
  EXPECT_EQ(Only<ExtendRound>(machine.Tick(now_, Workers(5))).attempt, 3);
  now_ = machine.next_deadline();
  const auto finish = Only<FinishJob>(machine.Tick(now_, Workers(5)));
  EXPECT_EQ(finish.state, v1::FAILED);
  EXPECT_THAT(finish.reason, HasSubstr("round 1: 1 of the 2 updates that it "
                                       "needs came, in 3 attempts"));
}

// ---- Losses, refusals, replacements ----

TEST_F(RoundMachineTest, LostMember_IsReplacedOnlyIfTheTargetNeedsIt) {
  v1::JobSpec spec = MakeSpec(2, 1);
  spec.mutable_cohort()->set_over_selection(1.5);
  RoundMachine machine = Make(spec);
  const auto cohort = Only<OpenRound>(machine.Tick(now_, Workers(9))).cohort;
  ASSERT_THAT(cohort, SizeIs(3));
  machine.OnWorkerLost(now_, cohort[0], "lease ran out");
  EXPECT_EQ(machine.next_deadline(), absl::InfinitePast());
  EXPECT_THAT(machine.Tick(now_, Workers(9)), IsEmpty());  // two are enough
  machine.OnWorkerLost(now_, cohort[1], "lease ran out");
  const auto extend = Only<ExtendRound>(machine.Tick(now_, Workers(9)));
  EXPECT_THAT(extend.added, SizeIs(2));  // up to the over-selected cohort again
  EXPECT_EQ(extend.attempt, 1);
  EXPECT_EQ(extend.deadline, kStart + absl::Seconds(100));
}

TEST_F(RoundMachineTest, LostMember_ThatComesBack_IsOfferedItsTaskAgain) {
  RoundMachine machine = Make(MakeSpec(0, 2));
  machine.Tick(now_, Workers(2));
  machine.OnTaskAccepted(now_, 1, kTrain, "w0");
  machine.OnWorkerLost(now_, "w0", "lease ran out");
  EXPECT_FALSE(machine.IsBusy("w0"));
  EXPECT_EQ(Only<OfferTask>(machine.OnWorkerJoined(now_, "w0")).worker, "w0");
  EXPECT_TRUE(machine.IsBusy("w0"));
  Deliver(&machine, "w0");
  EXPECT_THAT(machine.OnWorkerJoined(now_, "w0"), IsEmpty());
}

TEST_F(RoundMachineTest, LostMember_ItsUpdateStillCounts) {
  RoundMachine machine = Make(MakeSpec(0, 2));
  machine.Tick(now_, Workers(2));
  Deliver(&machine, "w1");
  machine.OnWorkerLost(now_, "w0", "lease ran out");
  EXPECT_OK(machine.CheckUpdate(1, "w0"));
  EXPECT_THAT(Only<CloseRound>(Deliver(&machine, "w0")).included,
              ElementsAre("w0", "w1"));
}

TEST_F(RoundMachineTest, AllRefuse_TriesAgainAfterAPauseAndFailsWithReasons) {
  RoundMachine machine = Make(MakeSpec(0, 1));
  machine.Tick(now_, Workers(1));
  for (int attempt = 1; attempt <= 2; ++attempt) {
    machine.OnTaskRefused(now_, 1, kTrain, "w0", "no such file");
    EXPECT_THAT(machine.CheckUpdate(1, "w0"),
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         HasSubstr("no such file")));
    EXPECT_THAT(machine.Tick(now_, Workers(1)), IsEmpty());
    EXPECT_THAT(machine.WaitingFor(), HasSubstr("w0: no such file"));
    EXPECT_EQ(machine.next_deadline(), now_ + RoundMachine::kRetryPause);
    now_ = machine.next_deadline();
    const auto extend = Only<ExtendRound>(machine.Tick(now_, Workers(1)));
    EXPECT_EQ(extend.attempt, attempt + 1);
    EXPECT_THAT(extend.added, ElementsAre("w0"));
  }
  machine.OnTaskRefused(now_, 1, kTrain, "w0", "no such file");
  machine.Tick(now_, Workers(1));
  now_ = machine.next_deadline();
  const auto finish = Only<FinishJob>(machine.Tick(now_, Workers(1)));
  EXPECT_EQ(finish.state, v1::FAILED);
  EXPECT_THAT(finish.reason, HasSubstr("w0: no such file"));
}

TEST_F(RoundMachineTest, AllLost_WaitsForTheDeadlineWithoutSpendingAttempts) {
  RoundMachine machine = Make(MakeSpec(0, 1));
  machine.Tick(now_, Workers(1));
  machine.OnWorkerLost(now_, "w0", "lease ran out");
  EXPECT_THAT(machine.Tick(now_, {}), IsEmpty());
  EXPECT_EQ(machine.next_deadline(), kStart + absl::Seconds(100));
  EXPECT_EQ(machine.snapshot().attempt, 1);
}

TEST_F(RoundMachineTest, StrangeEvents_ChangeNothing) {
  RoundMachine machine = Make(MakeSpec(0, 1));
  machine.Tick(now_, Workers(2));
  EXPECT_THAT(machine.OnUpdateAccepted(now_, 2, "w0", {}), IsEmpty());
  EXPECT_THAT(machine.OnUpdateAccepted(now_, 1, "stranger", {}), IsEmpty());
  EXPECT_THAT(machine.OnTaskRefused(now_, 1, kEvaluate, "w0", "x"), IsEmpty());
  EXPECT_THAT(machine.OnTaskRefused(now_, 0, kTrain, "w0", "x"), IsEmpty());
  EXPECT_THAT(machine.OnWorkerLost(now_, "stranger", "x"), IsEmpty());
  EXPECT_THAT(machine.OnWorkerJoined(now_, "stranger"), IsEmpty());
  EXPECT_THAT(machine.OnAggregated(now_, 1, absl::OkStatus(), {}), IsEmpty());
  EXPECT_THAT(machine.OnEvaluated(now_, 1, "w0", {}), IsEmpty());
  EXPECT_EQ(machine.next_deadline(), kStart + absl::Seconds(100));
  EXPECT_TRUE(machine.IsBusy("w0"));
  EXPECT_TRUE(machine.IsBusy("w1"));
}

// ---- CheckUpdate ----

TEST_F(RoundMachineTest, CheckUpdate_EachCase_HasItsCode) {
  using Code = absl::StatusCode;
  RoundMachine machine = Make(MakeSpec(0, 1));
  EXPECT_THAT(machine.CheckUpdate(1, "w0"),
              StatusIs(Code::kFailedPrecondition));
  machine.Tick(now_, Workers(2));
  EXPECT_OK(machine.CheckUpdate(1, "w0"));
  EXPECT_THAT(machine.CheckUpdate(2, "w0"),
              StatusIs(Code::kFailedPrecondition, HasSubstr("at round 1")));
  EXPECT_THAT(machine.CheckUpdate(1, "stranger"),
              StatusIs(Code::kFailedPrecondition, HasSubstr("cohort")));
  Deliver(&machine, "w0");
  EXPECT_THAT(machine.CheckUpdate(1, "w0"), StatusIs(Code::kAlreadyExists));
  now_ = machine.next_deadline();
  machine.Tick(now_, Workers(2));
  EXPECT_THAT(machine.CheckUpdate(1, "w0"), StatusIs(Code::kAlreadyExists));
  EXPECT_THAT(machine.CheckUpdate(1, "w1"),
              StatusIs(Code::kFailedPrecondition, HasSubstr("closed")));
  machine.OnCancel(now_, "by ann");
  EXPECT_THAT(machine.CheckUpdate(1, "w0"),
              StatusIs(Code::kFailedPrecondition, HasSubstr("by ann")));
}

// ---- Aggregation ----

TEST_F(RoundMachineTest, Aggregated_NextRoundOpens_UntilAllAreDone) {
  RoundMachine machine = Make(MakeSpec(0, 1));
  machine.Tick(now_, Workers(1));
  Deliver(&machine, "w0");
  EXPECT_THAT(Aggregate(&machine), IsEmpty());
  EXPECT_EQ(machine.next_deadline(), absl::InfinitePast());
  EXPECT_EQ(Only<OpenRound>(machine.Tick(now_, Workers(1))).round, 2);
  Deliver(&machine, "w0");
  const auto finish = Only<FinishJob>(Aggregate(&machine));
  EXPECT_EQ(finish.state, v1::SUCCEEDED);
  EXPECT_EQ(finish.reason, "all 2 rounds are done");
  EXPECT_EQ(machine.next_deadline(), absl::InfiniteFuture());
  EXPECT_EQ(machine.snapshot().round, 2);
}

TEST_F(RoundMachineTest, AggregationFails_StartsFromScratchWithoutTheRefused) {
  RoundMachine machine = Make(MakeSpec(0, 2));
  machine.Tick(now_, Workers(3));
  for (const WorkerId& worker : Workers(3)) Deliver(&machine, worker);
  const std::vector<WorkerId> refused = {"w1"};
  EXPECT_THAT(machine.OnAggregated(
                  now_, 1, absl::FailedPreconditionError("too few"), refused),
              IsEmpty());
  const auto open = Only<OpenRound>(machine.Tick(now_, Workers(3)));
  EXPECT_EQ(open.round, 1);
  EXPECT_EQ(open.attempt, 2);
  EXPECT_THAT(open.cohort, ElementsAre("w0", "w2"));
  EXPECT_OK(machine.CheckUpdate(1, "w0"));
  EXPECT_THAT(machine.CheckUpdate(1, "w1"),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(RoundMachineTest, AggregationFails_TooFewLeft_FailsAfterTheAttempts) {
  RoundMachine machine = Make(MakeSpec(0, 1));
  machine.Tick(now_, Workers(1));
  Deliver(&machine, "w0");
  machine.OnAggregated(now_, 1, absl::FailedPreconditionError("empty set"),
                       Workers(1));
  EXPECT_THAT(machine.Tick(now_, Workers(1)), IsEmpty());
  EXPECT_THAT(machine.WaitingFor(), HasSubstr("w0: its update was refused"));
  now_ = machine.next_deadline();
  EXPECT_THAT(machine.Tick(now_, Workers(1)), IsEmpty());
  now_ = machine.next_deadline();
  EXPECT_EQ(Only<FinishJob>(machine.Tick(now_, Workers(1))).state, v1::FAILED);
}

// ---- Evaluation ----

TEST_F(RoundMachineTest, Evaluation_AllAnswer_ReportsAndGoesOn) {
  v1::JobSpec spec = MakeSpec(1, 1);
  spec.mutable_evaluation()->set_every_rounds(1);
  RoundMachine machine = Make(spec);
  const auto open = Only<OpenRound>(machine.Tick(now_, Workers(3)));
  Deliver(&machine, open.cohort[0]);
  EXPECT_THAT(Aggregate(&machine), IsEmpty());
  const auto start = Only<StartEvaluation>(machine.Tick(now_, Workers(3)));
  EXPECT_EQ(start.cohort, Workers(3));
  EXPECT_EQ(start.deadline, now_ + absl::Seconds(50));
  EXPECT_EQ(machine.next_deadline(), start.deadline);
  machine.OnEvaluated(now_, 1, "w0", MakeMetrics(0.5));
  machine.OnTaskRefused(now_, 1, kEvaluate, "w1", "no held-out data");
  EXPECT_TRUE(machine.IsBusy("w2"));
  const auto finish =
      Only<FinishEvaluation>(machine.OnWorkerLost(now_, "w2", "lease ran out"));
  EXPECT_THAT(finish.metrics, SizeIs(1));
  EXPECT_EQ(machine.snapshot().round, 2);
}

TEST_F(RoundMachineTest, Evaluation_Deadline_TakesWhoeverAnswered) {
  v1::JobSpec spec = MakeSpec(1, 1);
  spec.mutable_evaluation()->set_every_rounds(1);
  RoundMachine machine = Make(spec);
  Deliver(&machine, Only<OpenRound>(machine.Tick(now_, Workers(2))).cohort[0]);
  Aggregate(&machine);
  machine.Tick(now_, Workers(2));
  now_ = machine.next_deadline();
  const Actions actions = machine.Tick(now_, Workers(2));
  EXPECT_THAT(Only<FinishEvaluation>(actions).metrics, IsEmpty());
  EXPECT_THAT(All<WithdrawTask>(actions), SizeIs(2));
  EXPECT_EQ(machine.snapshot().round, 2);
}

TEST_F(RoundMachineTest, Evaluation_EveryTwoRounds_AndTheLastAlways) {
  v1::JobSpec spec = MakeSpec(0, 1);
  spec.set_rounds(3);
  spec.mutable_evaluation()->set_every_rounds(2);
  RoundMachine machine = Make(spec);
  std::vector<int64_t> evaluated;
  for (int64_t round = 1; round <= 3; ++round) {
    machine.Tick(now_, Workers(1));
    Deliver(&machine, "w0");
    Aggregate(&machine);
    if (machine.snapshot().phase != Phase::kEvaluating) continue;
    evaluated.push_back(round);
    machine.Tick(now_, Workers(1));
    machine.OnEvaluated(now_, round, "w0", MakeMetrics(0.5));
  }
  EXPECT_THAT(evaluated, ElementsAre(2, 3));
  EXPECT_EQ(machine.snapshot().final_state, v1::SUCCEEDED);
}

TEST_F(RoundMachineTest, EarlyStop_ThresholdReached_EndsTheJob) {
  v1::JobSpec spec = MakeSpec(0, 1);
  spec.set_rounds(100);
  spec.mutable_evaluation()->set_every_rounds(1);
  spec.mutable_stop()->set_metric("accuracy");
  spec.mutable_stop()->set_threshold(0.9);
  RoundMachine machine = Make(spec);
  machine.Tick(now_, Workers(1));
  Deliver(&machine, "w0");
  Aggregate(&machine);
  machine.Tick(now_, Workers(1));
  const Actions actions = machine.OnEvaluated(now_, 1, "w0", MakeMetrics(0.95));
  EXPECT_EQ(Only<FinishEvaluation>(actions).round, 1);
  EXPECT_EQ(Only<FinishJob>(actions).state, v1::SUCCEEDED);
  EXPECT_THAT(Only<FinishJob>(actions).reason, HasSubstr("threshold 0.9"));
}

// ---- Pause, cancel ----

TEST_F(RoundMachineTest, Pause_OpenRound_GoesOnToItsEndThenWaits) {
  RoundMachine machine = Make(MakeSpec(0, 1));
  machine.Tick(now_, Workers(1));
  machine.OnPause(now_);
  EXPECT_THAT(All<CloseRound>(Deliver(&machine, "w0")), SizeIs(1));
  Aggregate(&machine);
  EXPECT_THAT(machine.Tick(now_, Workers(1)), IsEmpty());
  EXPECT_EQ(machine.WaitingFor(), "paused");
  EXPECT_EQ(machine.next_deadline(), absl::InfiniteFuture());
  machine.OnResume(now_);
  EXPECT_EQ(machine.next_deadline(), absl::InfinitePast());
  EXPECT_EQ(Only<OpenRound>(machine.Tick(now_, Workers(1))).round, 2);
}

TEST_F(RoundMachineTest, Cancel_OpenRound_WithdrawsAndEnds) {
  RoundMachine machine = Make(MakeSpec(0, 1));
  machine.Tick(now_, Workers(2));
  const Actions actions = machine.OnCancel(now_, "by ann");
  EXPECT_THAT(All<WithdrawTask>(actions), SizeIs(2));
  EXPECT_EQ(Only<FinishJob>(actions).state, v1::CANCELLED);
  EXPECT_THAT(machine.OnCancel(now_, "again"), IsEmpty());
  EXPECT_THAT(machine.Tick(now_, Workers(2)), IsEmpty());
}

TEST_F(RoundMachineTest, Failure_AnyPhase_EndsTheJobOnce) {
  RoundMachine machine = Make(MakeSpec(0, 1));
  const auto finish = Only<FinishJob>(machine.OnFailure("no initial model"));
  EXPECT_EQ(finish.state, v1::FAILED);
  EXPECT_EQ(finish.reason, "no initial model");
  EXPECT_THAT(machine.OnFailure("again"), IsEmpty());
}

// ---- Restart ----

TEST_F(RoundMachineTest, Restart_WhileTraining_OffersAgainAndKeepsUpdates) {
  RoundMachine before = Make(MakeSpec(0, 2));
  before.Tick(now_, Workers(3));
  before.OnTaskAccepted(now_, 1, kTrain, "w0");
  Deliver(&before, "w1");
  RoundMachine after(before.spec(), before.snapshot());
  EXPECT_EQ(after.next_deadline(), absl::InfinitePast());
  EXPECT_THAT(after.Tick(now_, {}), IsEmpty());
  EXPECT_EQ(Only<OfferTask>(after.OnWorkerJoined(now_, "w0")).round, 1);
  EXPECT_THAT(after.OnWorkerJoined(now_, "w1"), IsEmpty());
  EXPECT_EQ(Only<OfferTask>(after.OnWorkerJoined(now_, "w2")).worker, "w2");
  Deliver(&after, "w0");
  EXPECT_THAT(Only<CloseRound>(Deliver(&after, "w2")).included, SizeIs(3));
}

TEST_F(RoundMachineTest, Restart_TargetReached_ClosesAtTheFirstTick) {
  Snapshot snapshot;
  snapshot.phase = Phase::kTraining;
  snapshot.attempt = 1;
  snapshot.deadline = kStart + absl::Seconds(100);
  snapshot.members["w0"].state = MemberState::kReceived;
  RoundMachine machine(MakeSpec(1, 1), snapshot);
  EXPECT_THAT(Only<CloseRound>(machine.Tick(now_, {})).included,
              ElementsAre("w0"));
}

TEST_F(RoundMachineTest, Restart_DeadlinePassedMeanwhile_CostsNoAttempt) {
  RoundMachine before = Make(MakeSpec(0, 2));
  before.Tick(now_, Workers(2));
  now_ += absl::Hours(5);
  RoundMachine after(before.spec(), before.snapshot());
  const auto extend = Only<ExtendRound>(after.Tick(now_, {}));
  EXPECT_EQ(extend.attempt, 1);
  EXPECT_THAT(extend.added, IsEmpty());
  EXPECT_EQ(extend.deadline, now_ + absl::Seconds(100));
}

TEST_F(RoundMachineTest, Restart_MemberStaysAway_IsReplacedAfterTheGrace) {
  RoundMachine before = Make(MakeSpec(2, 1));
  const auto cohort = Only<OpenRound>(before.Tick(now_, Workers(3))).cohort;
  std::vector<WorkerId> others;
  for (const WorkerId& worker : Workers(3)) {
    if (worker != cohort[0]) others.push_back(worker);
  }
  RoundMachine after(before.spec(), before.snapshot());
  EXPECT_THAT(after.Tick(now_, {}), IsEmpty());
  after.OnWorkerJoined(now_, cohort[1]);
  EXPECT_THAT(after.Tick(now_, others), IsEmpty());
  EXPECT_EQ(after.next_deadline(), now_ + RoundMachine::kReconnectGrace);
  now_ = after.next_deadline();
  EXPECT_THAT(Only<ExtendRound>(after.Tick(now_, others)).added, SizeIs(1));
  EXPECT_FALSE(after.IsBusy(cohort[0]));
  EXPECT_TRUE(after.IsBusy(cohort[1]));
}

TEST_F(RoundMachineTest, Restart_WhileAggregating_ClosesAgainOnce) {
  RoundMachine before = Make(MakeSpec(0, 1));
  before.Tick(now_, Workers(1));
  const auto close = Only<CloseRound>(Deliver(&before, "w0"));
  RoundMachine after(before.spec(), before.snapshot());
  EXPECT_EQ(after.next_deadline(), absl::InfinitePast());
  EXPECT_EQ(Only<CloseRound>(after.Tick(now_, {})).included, close.included);
  EXPECT_THAT(after.Tick(now_, {}), IsEmpty());
  EXPECT_THAT(Aggregate(&after), IsEmpty());
  EXPECT_EQ(after.snapshot().round, 2);
}

TEST_F(RoundMachineTest, Restart_WhileEvaluating_AsksOnceTheWorkersAreBack) {
  Snapshot snapshot;
  snapshot.phase = Phase::kEvaluating;
  snapshot.attempt = 1;
  snapshot.included = {"w0", "w1"};
  v1::JobSpec spec = MakeSpec(0, 1);
  spec.mutable_evaluation()->set_every_rounds(1);
  RoundMachine machine(spec, snapshot);
  EXPECT_THAT(machine.Tick(now_, Workers(1)), IsEmpty());
  EXPECT_THAT(Only<StartEvaluation>(machine.Tick(now_, Workers(2))).cohort,
              SizeIs(2));
  RoundMachine impatient(spec, snapshot);
  impatient.Tick(now_, Workers(1));
  now_ = impatient.next_deadline();
  EXPECT_THAT(Only<StartEvaluation>(impatient.Tick(now_, Workers(1))).cohort,
              SizeIs(1));
}

TEST_F(RoundMachineTest, Restart_BetweenRounds_WaitsForTheLastOnesWorkers) {
  Snapshot snapshot;
  snapshot.round = 2;
  snapshot.included = {"w0", "w1"};
  RoundMachine machine(MakeSpec(0, 1), snapshot);
  EXPECT_THAT(machine.Tick(now_, Workers(1)), IsEmpty());
  EXPECT_THAT(machine.WaitingFor(), HasSubstr("restart"));
  EXPECT_EQ(machine.next_deadline(), now_ + RoundMachine::kReconnectGrace);
  EXPECT_THAT(Only<OpenRound>(machine.Tick(now_, Workers(2))).cohort,
              SizeIs(2));
}

TEST_F(RoundMachineTest, Restart_EndNotJournalled_EndsAtTheFirstTick) {
  Snapshot done;
  done.round = 3;
  RoundMachine machine(MakeSpec(0, 1), done);
  EXPECT_EQ(Only<FinishJob>(machine.Tick(now_, {})).state, v1::SUCCEEDED);
  EXPECT_EQ(machine.snapshot().round, 2);

  v1::JobSpec spec = MakeSpec(0, 1);
  spec.mutable_stop()->set_metric("accuracy");
  spec.mutable_stop()->set_threshold(0.9);
  Snapshot stopped;
  stopped.round = 2;
  stopped.metric_history = {{1, 0.95}};
  EXPECT_THAT(
      Only<FinishJob>(RoundMachine(spec, stopped).Tick(now_, {})).reason,
      HasSubstr("reached the threshold"));
}

// ---- Buffered rounds ----

class BufferedRoundTest : public RoundMachineTest {
 protected:
  // Rounds of `size` updates; all candidates train at once.
  v1::JobSpec MakeBuffered(int64_t size, int64_t max_staleness) {
    v1::JobSpec spec = MakeSpec(0, 1);
    spec.set_rounds(5);
    spec.mutable_buffer()->set_size(size);
    spec.mutable_buffer()->set_max_staleness(max_staleness);
    return spec;
  }
  Actions Send(RoundMachine* machine, int64_t task_round,
               const WorkerId& worker) {
    EXPECT_OK(machine->CheckUpdate(task_round, worker));
    return machine->OnUpdateAccepted(now_, task_round, worker,
                                     MakeMetrics(0.5));
  }
};

TEST_F(BufferedRoundTest, Full_ClosesAndWithdrawsNobody) {
  RoundMachine machine = Make(MakeBuffered(2, 3));
  machine.Tick(now_, Workers(4));
  Send(&machine, 1, "w0");
  const Actions actions = Send(&machine, 1, "w1");
  const auto close = Only<CloseRound>(actions);
  EXPECT_THAT(close.included, ElementsAre("w0", "w1"));
  EXPECT_THAT(close.excluded.at("w2"), HasSubstr("at work"));
  EXPECT_THAT(All<WithdrawTask>(actions), IsEmpty());
  EXPECT_TRUE(machine.IsBusy("w2"));
  EXPECT_TRUE(machine.IsAtWork(1, kTrain, "w2"));
  EXPECT_FALSE(machine.IsBusy("w0"));
}

TEST_F(BufferedRoundTest, NextRound_CarriesWhoIsAtWorkAndAsksTheRest) {
  RoundMachine machine = Make(MakeBuffered(2, 3));
  machine.Tick(now_, Workers(4));
  Send(&machine, 1, "w0");
  Send(&machine, 1, "w1");
  Aggregate(&machine);
  const auto open = Only<OpenRound>(machine.Tick(now_, Workers(4)));
  EXPECT_EQ(open.round, 2);
  EXPECT_EQ(open.cohort, Workers(4));
  EXPECT_THAT(open.asked, ElementsAre("w0", "w1"));
  EXPECT_EQ(open.carried, (std::map<WorkerId, int64_t>{{"w2", 1}, {"w3", 1}}));
  EXPECT_EQ(machine.OldestTaskRound(), 1);
  // One stale update and one fresh.
  Send(&machine, 1, "w2");
  EXPECT_THAT(Only<CloseRound>(Send(&machine, 2, "w0")).included,
              ElementsAre("w0", "w2"));
}

TEST_F(BufferedRoundTest, Update_BetweenRounds_WaitsAndIsTakenByTheNext) {
  RoundMachine machine = Make(MakeBuffered(1, 3));
  machine.Tick(now_, Workers(2));
  Send(&machine, 1, "w0");
  EXPECT_THAT(machine.CheckUpdate(1, "w1"),
              StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(machine.OnUpdateAccepted(now_, 1, "w1", MakeMetrics(0.5)),
              IsEmpty());
  Aggregate(&machine);
  EXPECT_THAT(machine.CheckUpdate(1, "w1"),
              StatusIs(absl::StatusCode::kUnavailable));
  machine.Tick(now_, Workers(2));
  EXPECT_THAT(Only<CloseRound>(Send(&machine, 1, "w1")).included,
              ElementsAre("w1"));
}

TEST_F(BufferedRoundTest, Task_ThatCouldOnlyBeTooStale_IsWithdrawn) {
  RoundMachine machine = Make(MakeBuffered(1, 1));
  machine.Tick(now_, Workers(2));
  Send(&machine, 1, "w0");
  EXPECT_THAT(All<WithdrawTask>(Aggregate(&machine)), IsEmpty());
  machine.Tick(now_, Workers(2));
  Send(&machine, 2, "w0");
  const auto withdraw = Only<WithdrawTask>(Aggregate(&machine));
  EXPECT_EQ(withdraw.round, 1);
  EXPECT_EQ(withdraw.worker, "w1");
  EXPECT_THAT(withdraw.reason, HasSubstr("staler than the 1 versions"));
  EXPECT_THAT(machine.CheckUpdate(1, "w1"),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  // It is free for the newest version.
  EXPECT_THAT(Only<OpenRound>(machine.Tick(now_, Workers(2))).asked,
              ElementsAre("w0", "w1"));
}

TEST_F(BufferedRoundTest, LastRoundPublished_WithdrawsTheRest) {
  v1::JobSpec spec = MakeBuffered(1, 3);
  spec.set_rounds(1);
  RoundMachine machine = Make(spec);
  machine.Tick(now_, Workers(2));
  Send(&machine, 1, "w0");
  const Actions actions = Aggregate(&machine);
  EXPECT_THAT(Only<WithdrawTask>(actions).reason, HasSubstr("last round"));
  EXPECT_EQ(Only<FinishJob>(actions).state, v1::SUCCEEDED);
}

TEST_F(BufferedRoundTest, Target_IsHowManyAreAtWork) {
  v1::JobSpec spec = MakeBuffered(2, 3);
  spec.mutable_cohort()->set_target(2);
  RoundMachine machine = Make(spec);
  const auto open = Only<OpenRound>(machine.Tick(now_, Workers(4)));
  ASSERT_THAT(open.asked, SizeIs(2));
  Send(&machine, 1, open.asked[0]);
  // Its place is free for one that has no update in this round yet.
  const auto extend = Only<ExtendRound>(machine.Tick(now_, Workers(4)));
  ASSERT_THAT(extend.added, SizeIs(1));
  EXPECT_EQ(std::count(open.asked.begin(), open.asked.end(), extend.added[0]),
            0);
}

TEST_F(BufferedRoundTest, FewerWorkersThanTheBuffer_ClosesWithoutWaiting) {
  RoundMachine machine = Make(MakeBuffered(3, 3));
  machine.Tick(now_, Workers(2));
  Send(&machine, 1, "w0");
  EXPECT_THAT(Send(&machine, 1, "w1"), IsEmpty());
  EXPECT_THAT(Only<CloseRound>(machine.Tick(now_, Workers(2))).included,
              SizeIs(2));
}

TEST_F(BufferedRoundTest, Deadline_ClosesWithWhatIsThereAndCarriesTheRest) {
  RoundMachine machine = Make(MakeBuffered(3, 3));
  machine.Tick(now_, Workers(3));
  Send(&machine, 1, "w0");
  now_ = machine.next_deadline();
  const Actions actions = machine.Tick(now_, Workers(3));
  EXPECT_THAT(Only<CloseRound>(actions).included, ElementsAre("w0"));
  EXPECT_THAT(All<WithdrawTask>(actions), IsEmpty());
  Aggregate(&machine);
  EXPECT_THAT(Only<OpenRound>(machine.Tick(now_, Workers(3))).carried,
              SizeIs(2));
}

TEST_F(BufferedRoundTest, LostWorker_KeepsItsTaskIntoTheNextRounds) {
  RoundMachine machine = Make(MakeBuffered(1, 2));
  machine.Tick(now_, Workers(2));
  Send(&machine, 1, "w0");
  machine.OnWorkerLost(now_, "w1", "lease ran out");
  Aggregate(&machine);
  EXPECT_EQ(Only<OpenRound>(machine.Tick(now_, {"w0"})).carried.at("w1"), 1);
  EXPECT_FALSE(machine.IsBusy("w1"));
  const auto offer = Only<OfferTask>(machine.OnWorkerJoined(now_, "w1"));
  EXPECT_EQ(offer.round, 1);
  Send(&machine, 1, "w1");
}

TEST_F(BufferedRoundTest, Refusal_OfACarriedTask_FreesForTheNextRound) {
  RoundMachine machine = Make(MakeBuffered(1, 2));
  machine.Tick(now_, Workers(2));
  Send(&machine, 1, "w0");
  Aggregate(&machine);
  machine.Tick(now_, Workers(2));
  machine.OnTaskRefused(now_, 2, kTrain, "w1", "that is not its task");
  EXPECT_TRUE(machine.IsBusy("w1"));
  machine.OnTaskRefused(now_, 1, kTrain, "w1", "no disk");
  EXPECT_FALSE(machine.IsBusy("w1"));
  Send(&machine, 2, "w0");
  Aggregate(&machine);
  EXPECT_THAT(Only<OpenRound>(machine.Tick(now_, Workers(2))).asked,
              ElementsAre("w0", "w1"));
}

TEST_F(BufferedRoundTest, Evaluation_AsksWhoIsNotAtWork) {
  v1::JobSpec spec = MakeBuffered(1, 2);
  spec.mutable_evaluation()->set_every_rounds(1);
  RoundMachine machine = Make(spec);
  machine.Tick(now_, Workers(2));
  Send(&machine, 1, "w0");
  Aggregate(&machine);
  EXPECT_THAT(Only<StartEvaluation>(machine.Tick(now_, Workers(2))).cohort,
              ElementsAre("w0"));
  EXPECT_TRUE(machine.IsAtWork(1, kTrain, "w1"));
  machine.OnEvaluated(now_, 1, "w0", MakeMetrics(0.5));
  EXPECT_EQ(machine.snapshot().phase, Phase::kWaiting);
  EXPECT_TRUE(machine.IsAtWork(1, kTrain, "w1"));
}

TEST_F(BufferedRoundTest, Evaluation_NobodyIdle_DoesNotHoldUpTheRest) {
  v1::JobSpec spec = MakeBuffered(1, 2);
  spec.mutable_evaluation()->set_every_rounds(1);
  RoundMachine machine = Make(spec);
  machine.Tick(now_, Workers(2));
  Send(&machine, 1, "w0");
  Aggregate(&machine);
  const Actions actions = machine.Tick(now_, {"w1"});  // w0 has left
  EXPECT_THAT(Only<FinishEvaluation>(actions).metrics, IsEmpty());
  EXPECT_EQ(machine.snapshot().round, 2);
}

TEST_F(BufferedRoundTest, FailedAggregation_TriesAgainWithWhoIsAtWork) {
  RoundMachine machine = Make(MakeBuffered(1, 2));
  machine.Tick(now_, Workers(2));
  Send(&machine, 1, "w0");
  EXPECT_THAT(machine.OnAggregated(
                  now_, 1, absl::FailedPreconditionError("cannot"), {"w0"}),
              IsEmpty());
  const auto open = Only<OpenRound>(machine.Tick(now_, Workers(2)));
  EXPECT_EQ(open.attempt, 2);
  EXPECT_THAT(open.cohort, ElementsAre("w1"));
  EXPECT_THAT(open.asked, IsEmpty());
  EXPECT_THAT(open.carried, IsEmpty());  // it has this round's task
  Send(&machine, 1, "w1");
}

TEST_F(BufferedRoundTest, Restart_GoesOnWithTheSameTasks) {
  Snapshot snapshot;
  snapshot.phase = Phase::kTraining;
  snapshot.round = 3;
  snapshot.attempt = 1;
  snapshot.deadline = now_ + absl::Hours(1);
  snapshot.members["w0"].task_round = 1;
  snapshot.members["w1"].task_round = 3;
  RoundMachine machine(MakeBuffered(2, 2), snapshot);
  machine.Tick(now_, {});
  EXPECT_EQ(Only<OfferTask>(machine.OnWorkerJoined(now_, "w0")).round, 1);
  EXPECT_EQ(Only<OfferTask>(machine.OnWorkerJoined(now_, "w1")).round, 3);
  EXPECT_THAT(machine.CheckUpdate(3, "w0"),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  Send(&machine, 1, "w0");
}

TEST_F(BufferedRoundTest, RestartBetweenRounds_WhoStaysAwayIsNotWaitedFor) {
  Snapshot snapshot;
  snapshot.round = 2;
  snapshot.included = {"w1", "w2"};
  snapshot.members["w0"].task_round = 1;
  RoundMachine machine(MakeBuffered(2, 2), snapshot);
  machine.Tick(now_, {});
  now_ = machine.next_deadline();
  const auto open = Only<OpenRound>(machine.Tick(now_, {"w1"}));
  EXPECT_EQ(open.carried.count("w0"), 1u);
  EXPECT_EQ(machine.next_deadline(), absl::InfinitePast());
  machine.Tick(now_, {"w1"});
  EXPECT_FALSE(machine.IsBusy("w0"));
  Send(&machine, 2, "w1");
  EXPECT_THAT(Only<CloseRound>(machine.Tick(now_, {"w1"})).included,
              ElementsAre("w1"));
}

TEST_F(BufferedRoundTest, RestartBetweenRounds_TasksThatAreTooStale_AreGone) {
  Snapshot snapshot;
  snapshot.round = 4;
  snapshot.included = {"w2"};
  snapshot.members["w0"].task_round = 1;
  snapshot.members["w1"].task_round = 2;
  RoundMachine machine(MakeBuffered(1, 2), snapshot);
  EXPECT_FALSE(machine.IsBusy("w0"));
  EXPECT_TRUE(machine.IsBusy("w1"));
  machine.Tick(now_, {});
  const auto open = Only<OpenRound>(machine.Tick(now_, Workers(3)));
  EXPECT_THAT(open.asked, ElementsAre("w0", "w2"));
  EXPECT_EQ(open.carried, (std::map<WorkerId, int64_t>{{"w1", 2}}));
}

}  // namespace
}  // namespace koinon::coordinator
