#include "tools/bench/aggregate_bench.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "base/status_matchers.h"

namespace koinon::tools {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

bool HasGram(const std::string& rule) {
  return MakeBenchRule(rule, 20)->gram();
}

AggregateBenchOptions Quick() {
  AggregateBenchOptions options;
  options.rules = {"fedavg"};
  options.cases = {{5, 5000}, {20, 777}};
  options.threads = {1, 2};
  options.repetitions = 2;
  options.seconds = 1e-6;
  options.python = "";
  return options;
}

TEST(MeasureAggregateTest, EveryCaseOnEveryThreadCount_HasAFigure) {
  ASSERT_OK_AND_ASSIGN(const auto figures, MeasureAggregate(Quick()));
  ASSERT_EQ(figures.size(), 4);
  EXPECT_EQ(figures[1].size.updates, 5);
  EXPECT_EQ(figures[1].threads, 2);
  EXPECT_EQ(figures[2].size.parameters, 777);
  for (const AggregateFigure& figure : figures) {
    EXPECT_EQ(figure.rule, "fedavg");
    EXPECT_GT(figure.seconds, 0);
    EXPECT_GT(figure.input_gb_per_s, 0);
    EXPECT_GT(figure.read_gb_per_s, 0);
    EXPECT_GT(figure.of_read, 0);
    EXPECT_EQ(figure.gflops, 0);
    // Values below 1: half a unit in the last place, and the weights' rounding.
    EXPECT_LT(figure.largest_error, 0x1p-24);
    EXPECT_THAT(figure.rivals, IsEmpty());
  }
}

TEST(MeasureAggregateTest, EveryRule_GivesTheRightAnswer) {
  AggregateBenchOptions options = Quick();
  options.rules = BenchRuleNames();
  ASSERT_OK_AND_ASSIGN(const auto figures, MeasureAggregate(options));
  ASSERT_EQ(figures.size(), 4 * BenchRuleNames().size());
  for (const AggregateFigure& figure : figures) {
    SCOPED_TRACE(figure.rule);
    EXPECT_LE(figure.largest_error, 0x1p-23);
    const bool gram = HasGram(figure.rule);
    EXPECT_EQ(figure.gflops > 0, gram);
    EXPECT_EQ(figure.of_peak > 0, gram);
    // The one that is compared with another of ours.
    EXPECT_EQ(figure.rivals.size(), figure.rule == "geometric_median_100");
  }
}

TEST(MeasureAggregateTest, NoInterpreter_IsNamedAsAbsent) {
  AggregateBenchOptions options = Quick();
  options.python = "/nonexistent/python3";
  ASSERT_OK_AND_ASSIGN(const auto figures, MeasureAggregate(options));
  EXPECT_THAT(figures[0].rival,
              AllOf(HasSubstr("absent"), HasSubstr("/nonexistent/python3")));
  EXPECT_THAT(AggregateTable(figures), HasSubstr("absent"));
  EXPECT_THAT(AggregateJson(figures), HasSubstr("\"rivals\":[]"));
}

// An interpreter that knows no NumPy, or that is none at all.
TEST(MeasureAggregateTest, ProgramThatDies_IsNamedAsAbsent) {
  AggregateBenchOptions options = Quick();
  options.python = "/bin/false";
  ASSERT_OK_AND_ASSIGN(const auto figures, MeasureAggregate(options));
  EXPECT_THAT(figures[0].rival,
              AllOf(HasSubstr("absent"), HasSubstr("has died")));
}

// MeasureAggregate itself fails where an answer differs by more than its
// tolerance.
TEST(MeasureAggregateTest, NumpyWhereThereIsOne_AgreesWithOursInEveryForm) {
  AggregateBenchOptions options = Quick();
  options.rules = BenchRuleNames();
  options.threads = {1};
  options.python = "/usr/bin/python3";
  ASSERT_OK_AND_ASSIGN(const auto figures, MeasureAggregate(options));
  for (const AggregateFigure& figure : figures) {
    SCOPED_TRACE(figure.rule);
    if (absl::StrContains(figure.rival, "absent")) GTEST_SKIP() << figure.rival;
    ASSERT_OK_AND_ASSIGN(const BenchRule rule,
                         MakeBenchRule(figure.rule, figure.size.updates));
    EXPECT_EQ(figure.rivals.size(),
              rule.rivals.size() + (rule.baseline.empty() ? 0 : 1));
    for (const RivalFigure& rival : figure.rivals) {
      SCOPED_TRACE(rival.name);
      EXPECT_GT(rival.seconds, 0);
      EXPECT_GT(rival.speedup, 0);
      EXPECT_EQ(rival.runs, 2);
      EXPECT_LE(rival.largest_difference, rival.tolerance);
    }
  }
}

TEST(MeasureAggregateTest, BadOptions_AreRefused) {
  AggregateBenchOptions options = Quick();
  options.cases = {{0, 5}};
  EXPECT_THAT(MeasureAggregate(options),
              StatusIs(absl::StatusCode::kInvalidArgument));
  options.cases = {{3, ~size_t{0}}};
  EXPECT_THAT(MeasureAggregate(options),
              StatusIs(absl::StatusCode::kResourceExhausted));
  options.cases = {{1000, 1'000'000'000}};
  EXPECT_THAT(MeasureAggregate(options),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("1000 updates of 1000000000 parameters")));
  options = Quick();
  options.rules = {"mean"};
  EXPECT_THAT(MeasureAggregate(options),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("\"mean\""), HasSubstr("krum"))));
  options = Quick();
  options.rules = {"krum"};
  options.cases = {{2, 100}};
  EXPECT_THAT(MeasureAggregate(options),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  options = Quick();
  options.threads = {0};
  EXPECT_THAT(
      MeasureAggregate(options),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("threads")));
  options = Quick();
  options.repetitions = 0;
  EXPECT_THAT(
      MeasureAggregate(options),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("repetitions")));
}

AggregateFigure Figure() {
  AggregateFigure figure;
  figure.rule = "krum";
  figure.size = {10, 1'000'000};
  figure.threads = 2;
  figure.seconds = 0.001;
  figure.input_gb_per_s = 40;
  figure.read_gb_per_s = 50;
  figure.of_read = 0.8;
  figure.rivals = {{"np.sort", 0.02, 20, 1e-7, 2e-7, 3},
                   {"pairwise", 4, 4000, 0, 0, 1}};
  figure.rival = "numpy \"1\"";
  return figure;
}

TEST(AggregateReportTest, Table_HasFiguresAndDashesForWhatIsAbsent) {
  AggregateFigure figure = Figure();
  const std::string table = AggregateTable({figure});
  EXPECT_THAT(
      table,
      AllOf(HasSubstr("krum "), HasSubstr("1000000"), HasSubstr("80%"),
            HasSubstr(" - "),
            HasSubstr("  np.sort 20x (1e-07), pairwise 4e+03x* (0e+00)\n")));
  figure.gflops = 55;
  figure.peak_gflops = 110;
  figure.of_peak = 0.5;
  figure.rivals.clear();
  EXPECT_THAT(AggregateTable({figure}), HasSubstr(" 55.0     50%  -\n"));
}

TEST(AggregateReportTest, Json_IsEscapedAndComplete) {
  EXPECT_EQ(
      AggregateJson({Figure()}),
      "[{\"rule\":\"krum\",\"updates\":10,\"parameters\":1000000,"
      "\"threads\":2,\"seconds\":0.001,\"input_gb_per_s\":40,"
      "\"read_gb_per_s\":50,\"of_read\":0.8,\"gflops\":0,\"peak_gflops\":0,"
      "\"of_peak\":0,\"largest_error\":0,\"rivals\":[{\"name\":\"np.sort\","
      "\"seconds\":0.02,\"speedup\":20,\"largest_difference\":1e-07,"
      "\"tolerance\":2e-07,\"runs\":3},{\"name\":\"pairwise\",\"seconds\":4,"
      "\"speedup\":4000,\"largest_difference\":0,\"tolerance\":0,"
      "\"runs\":1}],\"rival\":\"numpy \\\"1\\\"\"}]\n");
  EXPECT_EQ(AggregateJson({}), "[]\n");
}

}  // namespace
}  // namespace koinon::tools
