#include "tools/bench/aggregate_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "base/status_matchers.h"

namespace koinon::tools {
namespace {

using ::testing::HasSubstr;

// Five updates of two values; the first is far from the others, which lie in
// the order 1, 2, 3, 4.
const std::vector<std::vector<float>> kRows = {
    {-1.0f, 1.0f}, {0.10f, 0.1f}, {0.20f, 0.1f}, {0.31f, 0.1f}, {0.43f, 0.1f}};
const std::vector<double> kWeights = {1, 1, 2, 1, 1};

AggregateAnswer Answer(const v1::AggregationReport& report,
                       const std::vector<float>& result) {
  AggregateAnswer answer;
  answer.n = kRows.size();
  answer.P = 2;
  answer.value = [](size_t i, size_t j) { return kRows[i][j]; };
  answer.weights = kWeights;
  answer.report = &report;
  answer.result = [&result](size_t j) { return result[j]; };
  return answer;
}

v1::AggregationReport Report(const std::vector<double>& coefficients) {
  v1::AggregationReport report;
  for (const double coefficient : coefficients) {
    auto* update = report.add_updates();
    update->set_coefficient(coefficient);
    update->set_selected(coefficient != 0);
  }
  return report;
}

absl::StatusOr<double> Check(const char* name,
                             const std::vector<double>& coefficients,
                             const std::vector<float>& result) {
  const v1::AggregationReport report = Report(coefficients);
  return CheckAggregate(*MakeBenchRule(name, kRows.size()),
                        Answer(report, result));
}

TEST(CheckAggregate, MedianAndTrimmedMean_AreThoseOfTheColumns) {
  const std::vector<double> none(5);
  EXPECT_OK(Check("median", none, {0.2f, 0.1f}).status());
  EXPECT_THAT(
      Check("median", none, {0.31f, 0.1f}),
      StatusIs(absl::StatusCode::kInternal, HasSubstr("element 0 is 0.31")));
  EXPECT_OK(Check("trimmed_mean", none, {0.61f / 3, 0.1f}).status());
  EXPECT_THAT(Check("trimmed_mean", none, {0.61f / 3, 0.28f}),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("element 1")));
}

TEST(CheckAggregate, WeightedMean_IsThatOfTheWeights) {
  EXPECT_OK(
      Check("fedavg_fixed_point", kWeights, {0.24f / 6, 1.5f / 6}).status());
  EXPECT_THAT(Check("fedavg_fixed_point", kWeights, {0.04f / 5, 0.25f}),
              StatusIs(absl::StatusCode::kInternal));
}

// f = 1: the two nearest others; 0.2 is the closest to its own.
TEST(CheckAggregate, Krum_MustChooseWhatAPlainKrumDoes) {
  EXPECT_OK(Check("krum", {0, 0, 1, 0, 0}, {0.2f, 0.1f}).status());
  EXPECT_THAT(
      Check("krum", {0, 0, 0, 1, 0}, {0.31f, 0.1f}),
      StatusIs(absl::StatusCode::kInternal, HasSubstr("selects other")));
  // The right choice, and another's values.
  EXPECT_THAT(Check("krum", {0, 0, 1, 0, 0}, {0.31f, 0.1f}),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("element 0")));
}

TEST(CheckAggregate, GeometricMedian_MustHaveThePlainWeights) {
  EXPECT_THAT(
      Check("geometric_median_1", {0.2, 0.2, 0.2, 0.2, 0.2}, {0.008f, 0.28f}),
      StatusIs(absl::StatusCode::kInternal, HasSubstr("coefficient 0")));
}

TEST(CheckAggregate, ReportOnOtherUpdates_IsRefused) {
  EXPECT_THAT(
      Check("median", {1}, {0.2f, 0.1f}),
      StatusIs(absl::StatusCode::kInternal, HasSubstr("reports on 1 updates")));
}

}  // namespace
}  // namespace koinon::tools
