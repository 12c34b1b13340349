#include "tools/cli/watch_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace koinon::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

v1::JobEvent Status(v1::JobState state, int64_t round, int64_t every = 1) {
  v1::JobEvent event;
  v1::JobStatus& status = *event.mutable_status();
  status.set_name("digits");
  status.set_state(state);
  status.set_round(round);
  status.set_version(round);
  status.mutable_spec()->set_rounds(10);
  status.mutable_spec()->mutable_evaluation()->set_every_rounds(every);
  return event;
}

v1::RoundReport Report(int64_t round) {
  v1::RoundReport report;
  report.set_round(round);
  report.add_included("worker-1");
  report.add_included("worker-2");
  report.set_seconds(1.25);
  report.mutable_training()->mutable_loss()->set_mean(0.5);
  return report;
}

v1::JobEvent Closed(int64_t round) {
  v1::JobEvent event;
  *event.mutable_round_closed() = Report(round);
  return event;
}

v1::JobEvent Evaluated(int64_t round, double accuracy) {
  v1::JobEvent event;
  v1::RoundReport& report = *event.mutable_evaluated();
  report = Report(round);
  report.mutable_evaluation()->mutable_loss()->set_mean(0.25);
  auto* spread = report.mutable_evaluation()->mutable_accuracy();
  spread->set_mean(accuracy);
  spread->set_min(accuracy - 0.1);
  spread->set_max(accuracy + 0.1);
  return event;
}

v1::JobEvent Worker(const std::string& name, v1::WorkerEvent::Kind kind,
                    const std::string& detail = "") {
  v1::JobEvent event;
  event.mutable_worker()->set_worker(name);
  event.mutable_worker()->set_kind(kind);
  event.mutable_worker()->set_detail(detail);
  return event;
}

TEST(WatchView, EvaluatedRound_IsOneRow) {
  WatchView view;
  view.Apply(Status(v1::RUNNING, 1));
  EXPECT_THAT(view.Apply(Closed(1)), IsEmpty());
  EXPECT_EQ(view.Header(),
            "round  workers  accuracy      loss  spread           seconds");
  EXPECT_THAT(
      view.Apply(Evaluated(1, 0.75)),
      ElementsAre(
          "    1        2    0.7500    0.2500  0.6500 - 0.8500     1.25"));
}

TEST(WatchView, RoundWithoutEvaluation_IsARowAtItsClosing) {
  WatchView view;
  view.Apply(Status(v1::RUNNING, 1, /*every=*/2));
  EXPECT_THAT(view.Apply(Closed(1)),
              ElementsAre("    1        2         -    0.5000  -         "
                          "          1.25"));
  EXPECT_THAT(view.Apply(Closed(2)), IsEmpty());
}

TEST(WatchView, EvaluationNeverWanted_NoRowWaits) {
  WatchView view;
  view.Apply(Status(v1::RUNNING, 1, /*every=*/-1));
  EXPECT_THAT(view.Apply(Closed(10)), SizeIs(1));
  EXPECT_THAT(view.Finish(), IsEmpty());
}

TEST(WatchView, LostEvaluation_RowComesWithTheNext) {
  WatchView view;
  view.Apply(Status(v1::RUNNING, 1));
  view.Apply(Closed(1));
  view.Apply(Closed(2));
  EXPECT_THAT(view.Apply(Evaluated(2, 0.8)),
              ElementsAre(HasSubstr("    1        2         -"),
                          HasSubstr("    2        2    0.8000")));
}

TEST(WatchView, LostLastEvaluation_RowComesAtTheEnd) {
  WatchView view;
  view.Apply(Status(v1::RUNNING, 1));
  view.Apply(Closed(1));
  EXPECT_THAT(view.Finish(), SizeIs(1));
  EXPECT_THAT(view.Finish(), IsEmpty());
}

TEST(WatchView, RepeatedEvents_PrintNothingTwice) {
  WatchView view;
  view.Apply(Status(v1::RUNNING, 1));
  view.Apply(Closed(1));
  view.Apply(Evaluated(1, 0.8));
  EXPECT_THAT(view.Apply(Closed(1)), IsEmpty());
  EXPECT_THAT(view.Apply(Evaluated(1, 0.8)), IsEmpty());
  EXPECT_THAT(view.Finish(), IsEmpty());
}

TEST(WatchView, WorkerTrouble_IsANote) {
  WatchView view;
  EXPECT_THAT(
      view.Apply(Worker("w3", v1::WorkerEvent::FAILED_TASK, "loss\x1b is nan")),
      ElementsAre("    * w3 failed: loss\\x1b is nan"));
  EXPECT_THAT(view.Apply(Worker("w3", v1::WorkerEvent::OFFERED)), IsEmpty());
}

TEST(WatchView, LiveLines_ShowTheRoundAndItsUpdates) {
  WatchView view;
  v1::JobEvent status = Status(v1::RUNNING, 3);
  status.mutable_status()->set_cohort_size(4);
  status.mutable_status()->set_updates_accepted(2);
  view.Apply(status);
  v1::JobEvent progress = Worker("w1", v1::WorkerEvent::PROGRESS);
  progress.mutable_worker()->set_fraction(1);
  view.Apply(progress);
  EXPECT_THAT(
      view.LiveLines(),
      ElementsAre("digits  running  round 3 of 10",
                  "  training [#######.......................]",
                  "  updates  [###############...............] 2 of 4"));
}

TEST(WatchView, LiveLines_OfABufferedJob_CountToTheBuffersSize) {
  WatchView view;
  v1::JobEvent status = Status(v1::RUNNING, 3);
  status.mutable_status()->set_cohort_size(8);
  status.mutable_status()->set_updates_accepted(2);
  status.mutable_status()->mutable_spec()->mutable_buffer()->set_size(4);
  view.Apply(status);
  EXPECT_THAT(
      view.LiveLines(),
      ElementsAre("digits  running  round 3 of 10",
                  "  training [..............................]",
                  "  updates  [###############...............] 2 of 4"));
}

TEST(WatchView, EndedJob_HasNoLiveLinesAndASummary) {
  WatchView view;
  view.Apply(Evaluated(10, 0.9));
  view.Apply(Status(v1::SUCCEEDED, 10));
  EXPECT_TRUE(view.ended());
  EXPECT_THAT(view.LiveLines(), IsEmpty());
  EXPECT_EQ(view.Summary(),
            "digits: succeeded after 10 rounds, accuracy 0.9000");
}

TEST(WatchView, Detail_FollowsTheRow) {
  v1::JobEvent event = Evaluated(1, 0.75);
  auto* aggregation = event.mutable_evaluated()->mutable_aggregation();
  aggregation->set_rule("krum");
  aggregation->set_f(1);
  aggregation->add_updates()->set_worker("w1");
  WatchView view(/*detail=*/true);
  EXPECT_THAT(
      view.Apply(event),
      ElementsAre(HasSubstr("0.7500"), HasSubstr("krum; f 1 of 1 update"),
                  HasSubstr("worker"), HasSubstr("w1")));
  EXPECT_THAT(WatchView().Apply(event), SizeIs(1));
}

TEST(WatchView, RunningJob_HasNotEnded) {
  WatchView view;
  view.Apply(Status(v1::PAUSED, 2));
  EXPECT_FALSE(view.ended());
}

}  // namespace
}  // namespace koinon::cli
