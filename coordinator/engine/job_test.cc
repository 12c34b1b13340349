#include "coordinator/engine/job.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/status_matchers.h"

namespace koinon::coordinator {
namespace {

using ::testing::HasSubstr;

v1::Metrics MetricsOf(int64_t examples, double loss, double accuracy) {
  v1::Metrics metrics;
  metrics.set_examples(examples);
  metrics.set_loss(loss);
  metrics.set_accuracy(accuracy);
  metrics.set_has_accuracy(true);
  return metrics;
}

TEST(SummarizeTest, TwoWorkers_MeanIsWeightedAndSpreadIsNot) {
  const auto summary = Summarize(
      {{"a", MetricsOf(30, 1.0, 0.8)}, {"b", MetricsOf(10, 3.0, 0.4)}});
  EXPECT_EQ(summary.workers(), 2);
  EXPECT_EQ(summary.examples(), 40);
  // (30 * 1 + 10 * 3) / 40 and (30 * 0.8 + 10 * 0.4) / 40, to rounding.
  EXPECT_NEAR(summary.loss().mean(), 1.5, 1e-12);
  EXPECT_NEAR(summary.accuracy().mean(), 0.7, 1e-12);
  EXPECT_EQ(summary.loss().min(), 1.0);
  EXPECT_EQ(summary.loss().max(), 3.0);
  EXPECT_NEAR(summary.loss().stddev(), 1.0, 1e-12);
}

TEST(SummarizeTest, Regression_HasNoAccuracy) {
  v1::Metrics metrics;
  metrics.set_examples(1);
  metrics.set_loss(2);
  const auto summary = Summarize({{"a", metrics}});
  EXPECT_TRUE(summary.has_loss());
  EXPECT_FALSE(summary.has_accuracy());
}

TEST(SummarizeTest, Nobody_IsEmpty) { EXPECT_FALSE(Summarize({}).has_loss()); }

TEST(CheckMetricsTest, OutOfRange_IsRefusedByName) {
  EXPECT_OK(CheckMetrics(MetricsOf(1, 0, 1)));
  EXPECT_THAT(
      CheckMetrics(MetricsOf(0, 0, 1)),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("examples")));
  EXPECT_THAT(CheckMetrics(MetricsOf(-5, 0, 1)),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(CheckMetrics(MetricsOf((int64_t{1} << 53) + 1, 0, 1)),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(CheckMetrics(MetricsOf(1, NAN, 1)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("loss")));
  EXPECT_THAT(
      CheckMetrics(MetricsOf(1, 0, 1.5)),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("accuracy")));
  EXPECT_THAT(CheckMetrics(MetricsOf(1, 0, NAN)),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(CheckMetricsTest, SiteThatCannotBe_IsRefusedByName) {
  const auto refuse = [](auto change) {
    v1::Metrics metrics = MetricsOf(1, 0, 1);
    v1::SiteCommunication& site = *metrics.mutable_communication();
    site.set_ranks(4);
    site.set_nodes(2);
    site.set_bytes(1 << 20);
    site.set_seconds(0.5);
    site.set_waited_seconds(0.25);
    site.set_step_seconds(3);
    site.set_step_waited_seconds(0.2);
    EXPECT_OK(CheckMetrics(metrics));
    change(site);
    EXPECT_THAT(CheckMetrics(metrics),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("metrics.communication")));
  };
  refuse([](auto& site) { site.set_ranks(0); });
  refuse([](auto& site) { site.set_ranks(int64_t{1} << 40); });
  refuse([](auto& site) { site.set_nodes(0); });
  refuse([](auto& site) { site.set_nodes(5); });
  refuse([](auto& site) { site.set_bytes(-1); });
  refuse([](auto& site) { site.set_seconds(-0.5); });
  refuse([](auto& site) { site.set_seconds(NAN); });
  refuse([](auto& site) { site.set_waited_seconds(INFINITY); });
  refuse([](auto& site) { site.set_step_seconds(-INFINITY); });
  refuse([](auto& site) { site.set_step_waited_seconds(NAN); });
}

class JobTest : public ::testing::Test {
 protected:
  JobTest() : job_(MakeRow(), RoundMachine(MakeRow().spec, {})) {
    job_.layout = *ModelLayout::Create({{"w", DType::kF32, {3}}});
    job_.version = 4;
    job_.head.set_version(4);
    job_.head.set_digest(std::string(32, 'd'));
    job_.round.round = 5;
  }

  static JobRow MakeRow() {
    JobRow row;
    row.spec.set_name("job");
    row.spec.set_rounds(10);
    row.spec.set_seed(7);
    row.spec.mutable_cohort()->set_minimum(1);
    row.spec.mutable_cohort()->set_over_selection(1);
    return row;
  }

  v1::UpdateHeader GoodHeader() const {
    v1::UpdateHeader header;
    header.mutable_task()->set_round(5);
    header.set_base_version(4);
    header.set_base_digest(std::string(32, 'd'));
    header.set_layout_hash(job_.layout.hash().ToBytes());
    header.set_size_bytes(12);
    header.set_digest(std::string(32, 'u'));
    *header.mutable_metrics() = MetricsOf(5, 1, 1);
    return header;
  }

  Job job_;
};

TEST_F(JobTest, CheckUpdateHeader_Good_IsOk) {
  EXPECT_OK(CheckUpdateHeader(job_, job_.head, "a", GoodHeader()));
}

TEST_F(JobTest, CheckUpdateHeader_EachFieldWrong_IsRefusedWithTheWorker) {
  const auto refused = [&](auto change, absl::string_view what) {
    v1::UpdateHeader header = GoodHeader();
    change(&header);
    EXPECT_THAT(CheckUpdateHeader(job_, job_.head, "site-a", header),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         ::testing::AllOf(HasSubstr("site-a"),
                                          HasSubstr(std::string(what)))));
  };
  using H = v1::UpdateHeader;
  refused([](H* h) { h->set_base_version(3); }, "version 3");
  refused([](H* h) { h->set_base_digest("x"); }, "version 4");
  refused([](H* h) { h->set_layout_hash("x"); }, "layout");
  refused([](H* h) { h->set_size_bytes(13); }, "13 bytes");
  refused([](H* h) { h->set_size_bytes(-1); }, "-1 bytes");
  refused([](H* h) { h->set_digest("short"); }, "digest");
  refused([](H* h) { h->mutable_metrics()->set_examples(0); }, "examples");
}

TEST_F(JobTest, MakeOffer_SameRoundAndWorker_SameSeed_OthersDiffer) {
  const absl::Time now = absl::FromUnixSeconds(0);
  int64_t round = 5;
  const auto seed = [&](const WorkerId& worker) {
    return MakeOffer(job_, job_.head, worker, TaskId::Kind::kTrain, round, now)
        .seed();
  };
  EXPECT_EQ(seed("a"), seed("a"));
  EXPECT_NE(seed("a"), seed("b"));
  const uint64_t before = seed("a");
  round = 6;
  EXPECT_NE(seed("a"), before);
}

TEST_F(JobTest, MakeOffer_BufferedJob_LastsAsLongAsItsUpdateCanBeInTime) {
  JobRow row = MakeRow();
  row.spec.mutable_cohort()->set_deadline_seconds(100);
  row.spec.mutable_buffer()->set_size(1);
  row.spec.mutable_buffer()->set_max_staleness(3);
  const absl::Time now = absl::FromUnixSeconds(0);
  RoundMachine::Snapshot snapshot;
  snapshot.round = 8;
  snapshot.attempt = 1;
  const auto seconds = [&](int64_t round) {
    const Job job(row, RoundMachine(row.spec, snapshot));
    return MakeOffer(job, job_.head, "a", TaskId::Kind::kTrain, round, now)
        .deadline_seconds();
  };
  snapshot.phase = Phase::kTraining;
  snapshot.deadline = now + absl::Seconds(60);
  EXPECT_EQ(seconds(5), 60);        // this round is its last chance
  EXPECT_EQ(seconds(7), 60 + 200);  // and rounds 9 and 10
  EXPECT_EQ(seconds(8), 60 + 200);  // round 10 is the job's last
  snapshot.phase = Phase::kEvaluating;
  snapshot.deadline = absl::InfiniteFuture();
  EXPECT_EQ(seconds(6), 100);  // round 9
  snapshot.phase = Phase::kWaiting;
  EXPECT_EQ(seconds(6), 200);  // rounds 8 and 9
}

TEST_F(JobTest, BriefStatus_SaysNothingOfEachWorker) {
  Job job(MakeRow(), RoundMachine(MakeRow().spec, RoundMachine::Snapshot()));
  EXPECT_FALSE(BriefStatusOf(job).has_last_report());
  v1::RoundReport& report = job.last_report;
  report.set_round(1);
  report.add_cohort("a");
  report.add_included("a");
  report.add_excluded()->set_worker("b");
  report.mutable_evaluation()->set_workers(2);
  report.mutable_aggregation()->set_rule("krum");
  v1::RoundReport expected = report;
  report.mutable_aggregation()->add_updates()->set_worker("a");
  EXPECT_EQ(StatusOf(job).last_report().aggregation().updates_size(), 1);
  expected.clear_cohort();
  expected.clear_included();
  expected.clear_excluded();
  EXPECT_EQ(BriefStatusOf(job).last_report().SerializeAsString(),
            expected.SerializeAsString());
}

TEST_F(JobTest, CountAsked_ControlVariates_AreOfAllCohorts) {
  JobRow row = MakeRow();
  v1::RoundReport first, second;
  first.add_cohort("a");
  first.add_cohort("b");
  second.add_cohort("b");
  second.add_cohort("c");
  Job plain(row, RoundMachine(row.spec, RoundMachine::Snapshot()));
  CountAsked(first, &plain);
  EXPECT_TRUE(plain.asked.empty());  // nobody needs it
  row.spec.mutable_training()->mutable_scaffold();
  Job job(row, RoundMachine(row.spec, RoundMachine::Snapshot()));
  CountAsked(first, &job);
  CountAsked(second, &job);
  EXPECT_EQ(job.asked, (std::set<WorkerId>{"a", "b", "c"}));
}

TEST_F(JobTest, RestoreSnapshot_OpenRound_KeepsAcceptedUpdates) {
  RoundRow round;
  round.round = 5;
  round.attempt = 2;
  round.cohort = {"a", "b"};
  AcceptedRow accepted;
  accepted.worker = "b";
  accepted.task_round = 5;
  accepted.metrics = MetricsOf(5, 1, 1);
  const auto snapshot =
      RestoreSnapshot(MakeRow(), {{5, round}}, {{"b", accepted}});
  EXPECT_EQ(snapshot.phase, Phase::kTraining);
  EXPECT_EQ(snapshot.round, 5);
  EXPECT_EQ(snapshot.attempt, 2);
  EXPECT_EQ(snapshot.members.at("a").state, MemberState::kOffered);
  EXPECT_EQ(snapshot.members.at("b").state, MemberState::kReceived);
}

TEST_F(JobTest, RestoreSnapshot_BufferedRound_KeepsEachTask) {
  JobRow row = MakeRow();
  row.spec.mutable_buffer()->set_size(2);
  RoundRow round;
  round.round = 5;
  round.cohort = {"a", "b", "c", "d"};
  round.carried = {{"a", 3}, {"b", 4}};
  AcceptedRow accepted;
  accepted.worker = "b";
  accepted.round = 5;
  accepted.task_round = 4;
  auto members = RestoreSnapshot(row, {{5, round}}, {{"b", accepted}}).members;
  EXPECT_EQ(members.at("a").task_round, 3);
  EXPECT_EQ(members.at("b").task_round, 4);
  EXPECT_EQ(members.at("b").state, MemberState::kReceived);
  EXPECT_EQ(members.at("c").task_round, 5);

  // The accepted rows go with the publication.
  round.included = {"b", "c"};
  round.phase = RoundPhase::kPublished;
  members = RestoreSnapshot(row, {{5, round}}, {}).members;
  EXPECT_EQ(members.at("a").state, MemberState::kOffered);
  EXPECT_EQ(members.at("b").state, MemberState::kReceived);
  EXPECT_EQ(members.at("c").state, MemberState::kReceived);

  round.phase = RoundPhase::kDone;
  const auto between = RestoreSnapshot(row, {{5, round}}, {});
  EXPECT_EQ(between.round, 6);
  ASSERT_EQ(between.members.size(), 2u);
  EXPECT_EQ(between.members.at("a").task_round, 3);
  EXPECT_EQ(between.members.at("d").task_round, 5);
  EXPECT_TRUE(RestoreSnapshot(MakeRow(), {{5, round}}, {}).members.empty());
}

TEST_F(JobTest, RestoreSnapshot_EachPhase_GoesOnWhereItStood) {
  RoundRow round;
  round.round = 5;
  round.included = {"a"};
  round.phase = RoundPhase::kClosed;
  EXPECT_EQ(RestoreSnapshot(MakeRow(), {{5, round}}, {}).phase,
            Phase::kAggregating);
  round.phase = RoundPhase::kPublished;
  EXPECT_EQ(RestoreSnapshot(MakeRow(), {{5, round}}, {}).phase,
            Phase::kEvaluating);
  round.phase = RoundPhase::kDone;
  const auto done = RestoreSnapshot(MakeRow(), {{5, round}}, {});
  EXPECT_EQ(done.phase, Phase::kWaiting);
  EXPECT_EQ(done.round, 6);
  JobRow finished = MakeRow();
  finished.state = v1::CANCELLED;
  EXPECT_EQ(RestoreSnapshot(finished, {{5, round}}, {}).phase,
            Phase::kFinished);
}

TEST_F(JobTest, RestoreSnapshot_EvaluatedRounds_KeepTheMetricForEarlyStopping) {
  JobRow row = MakeRow();
  row.spec.mutable_stop()->set_metric("accuracy");
  RoundRow round;
  round.round = 1;
  round.phase = RoundPhase::kDone;
  round.report.mutable_evaluation()->mutable_accuracy()->set_mean(0.75);
  const auto snapshot = RestoreSnapshot(row, {{1, round}}, {});
  EXPECT_EQ(snapshot.metric_history, (std::map<int64_t, double>{{1, 0.75}}));
}

}  // namespace
}  // namespace koinon::coordinator
