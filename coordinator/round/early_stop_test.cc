#include "coordinator/round/early_stop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace koinon::coordinator {
namespace {

using ::testing::HasSubstr;
using ::testing::Optional;

v1::Metrics MakeMetrics(int64_t examples, double loss, double accuracy) {
  v1::Metrics metrics;
  metrics.set_examples(examples);
  metrics.set_loss(loss);
  metrics.set_accuracy(accuracy);
  metrics.set_has_accuracy(true);
  return metrics;
}

v1::StopSpec MakeStop(const std::string& metric, double threshold,
                      int64_t patience) {
  v1::StopSpec stop;
  stop.set_metric(metric);
  stop.set_threshold(threshold);
  stop.set_patience(patience);
  return stop;
}

TEST(FederatedMetricTest, SeveralWorkers_IsWeightedByExamples) {
  const std::map<WorkerId, v1::Metrics> metrics = {
      {"a", MakeMetrics(1, 4, 0.5)}, {"b", MakeMetrics(3, 8, 1.0)}};
  EXPECT_THAT(FederatedMetric(metrics, "loss"), Optional(7.0));
  EXPECT_THAT(FederatedMetric(metrics, "accuracy"), Optional(0.875));
}

TEST(FederatedMetricTest, NothingToWeigh_IsAbsent) {
  EXPECT_EQ(FederatedMetric({}, "loss"), std::nullopt);
  EXPECT_EQ(FederatedMetric({{"a", MakeMetrics(0, 1, 1)}}, "loss"),
            std::nullopt);
  v1::Metrics regression = MakeMetrics(5, 1, 0);
  regression.set_has_accuracy(false);
  EXPECT_EQ(FederatedMetric({{"a", regression}}, "accuracy"), std::nullopt);
  EXPECT_THAT(FederatedMetric({{"a", regression}}, "loss"), Optional(1.0));
}

TEST(EarlyStopReasonTest, NoMetric_NeverStops) {
  EXPECT_EQ(EarlyStopReason(v1::StopSpec(), {{1, 1.0}}), "");
  EXPECT_EQ(EarlyStopReason(MakeStop("loss", 1, 1), {}), "");
}

TEST(EarlyStopReasonTest, Threshold_OnlyTheLastRoundCounts) {
  const v1::StopSpec accuracy = MakeStop("accuracy", 0.9, 0);
  EXPECT_EQ(EarlyStopReason(accuracy, {{1, 0.95}, {2, 0.89}}), "");
  EXPECT_THAT(EarlyStopReason(accuracy, {{1, 0.5}, {2, 0.9}}),
              HasSubstr("accuracy 0.9 reached the threshold 0.9 in round 2"));
  const v1::StopSpec loss = MakeStop("loss", 0.2, 0);
  EXPECT_EQ(EarlyStopReason(loss, {{1, 0.3}}), "");
  EXPECT_THAT(EarlyStopReason(loss, {{1, 0.1}}), HasSubstr("loss 0.1"));
}

TEST(EarlyStopReasonTest, Patience_CountsEvaluationsWithoutImprovement) {
  const v1::StopSpec stop = MakeStop("accuracy", 0, 2);
  EXPECT_EQ(EarlyStopReason(stop, {{1, 0.5}}), "");
  EXPECT_EQ(EarlyStopReason(stop, {{1, 0.5}, {3, 0.4}}), "");
  EXPECT_THAT(EarlyStopReason(stop, {{1, 0.5}, {3, 0.4}, {5, 0.5}}),
              HasSubstr("not improved on 0.5 (round 1) for 2 evaluations"));
  EXPECT_EQ(EarlyStopReason(stop, {{1, 0.5}, {3, 0.4}, {5, 0.6}}), "");
}

TEST(EarlyStopReasonTest, NaN_NeverImprovesNorReaches) {
  const v1::StopSpec stop = MakeStop("loss", 10, 2);
  EXPECT_EQ(EarlyStopReason(stop, {{1, std::nan("")}}), "");
  EXPECT_THAT(EarlyStopReason(stop, {{1, std::nan("")}, {2, std::nan("")}}),
              HasSubstr("not a number in 2"));
  EXPECT_THAT(EarlyStopReason(MakeStop("loss", 0, 2),
                              {{1, 0.5}, {2, std::nan("")}, {3, std::nan("")}}),
              HasSubstr("not improved on 0.5"));
}

}  // namespace
}  // namespace koinon::coordinator
