#include "tools/bench/aggregate_bench.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/status_matchers.h"

namespace koinon::tools {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

AggregateBenchOptions Quick() {
  AggregateBenchOptions options;
  options.cases = {{3, 5000}, {20, 777}};
  options.threads = {1, 2};
  options.repetitions = 2;
  options.seconds = 1e-6;
  options.python = "";
  return options;
}

TEST(MeasureAggregateTest, EveryCaseOnEveryThreadCount_HasAFigure) {
  ASSERT_OK_AND_ASSIGN(const auto figures, MeasureAggregate(Quick()));
  ASSERT_EQ(figures.size(), 4);
  EXPECT_EQ(figures[1].size.updates, 3);
  EXPECT_EQ(figures[1].threads, 2);
  EXPECT_EQ(figures[2].size.parameters, 777);
  for (const AggregateFigure& figure : figures) {
    EXPECT_GT(figure.seconds, 0);
    EXPECT_GT(figure.input_gb_per_s, 0);
    EXPECT_GT(figure.read_gb_per_s, 0);
    EXPECT_GT(figure.of_read, 0);
    // Values below 1: half a unit in the last place, and the weights' rounding.
    EXPECT_LT(figure.largest_error, 0x1p-24);
    EXPECT_FALSE(figure.average.has_value());
    EXPECT_FALSE(figure.matvec.has_value());
  }
}

TEST(MeasureAggregateTest, NoInterpreter_IsNamedAsAbsent) {
  AggregateBenchOptions options = Quick();
  options.python = "/nonexistent/python3";
  ASSERT_OK_AND_ASSIGN(const auto figures, MeasureAggregate(options));
  EXPECT_THAT(figures[0].rival,
              AllOf(HasSubstr("absent"), HasSubstr("/nonexistent/python3")));
  EXPECT_THAT(AggregateTable(figures), HasSubstr("absent"));
  EXPECT_THAT(AggregateJson(figures), HasSubstr("\"np_average\":null"));
}

// An interpreter that knows no NumPy, or that is none at all.
TEST(MeasureAggregateTest, ProgramThatDies_IsNamedAsAbsent) {
  AggregateBenchOptions options = Quick();
  options.python = "/bin/false";
  ASSERT_OK_AND_ASSIGN(const auto figures, MeasureAggregate(options));
  EXPECT_THAT(figures[0].rival,
              AllOf(HasSubstr("absent"), HasSubstr("has died")));
}

TEST(MeasureAggregateTest, NumpyWhereThereIsOne_AgreesWithOurs) {
  AggregateBenchOptions options = Quick();
  options.python = "/usr/bin/python3";
  ASSERT_OK_AND_ASSIGN(const auto figures, MeasureAggregate(options));
  for (const AggregateFigure& figure : figures) {
    if (!figure.average.has_value()) {
      EXPECT_THAT(figure.rival, HasSubstr("absent"));
      GTEST_SKIP() << figure.rival;
    }
    EXPECT_GT(figure.average->speedup, 0);
    EXPECT_GT(figure.average_fp32->speedup, 0);
    EXPECT_GT(figure.matvec->speedup, 0);
    // NumPy sums in fp64 here; both round once, and then the weights' rounding.
    EXPECT_LT(figure.average->largest_difference, 3 * 0x1p-24);
    // Values below 1 summed in fp32, in whatever order: n + 1 roundings of
    // 2^-24 each (n = 20), and the rounding of weights.
    EXPECT_LT(figure.average_fp32->largest_difference, 22 * 0x1p-24);
    EXPECT_LT(figure.matvec->largest_difference, 22 * 0x1p-24);
  }
}

TEST(MeasureAggregateTest, BadOptions_AreRefused) {
  AggregateBenchOptions options = Quick();
  options.cases = {{0, 5}};
  EXPECT_THAT(MeasureAggregate(options),
              StatusIs(absl::StatusCode::kInvalidArgument));
  options.cases = {{3, ~size_t{0}}};
  EXPECT_THAT(MeasureAggregate(options),
              StatusIs(absl::StatusCode::kInvalidArgument));
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
  figure.size = {10, 1'000'000};
  figure.threads = 2;
  figure.seconds = 0.001;
  figure.input_gb_per_s = 40;
  figure.read_gb_per_s = 50;
  figure.of_read = 0.8;
  figure.average = RivalFigure{0.02, 20, 1e-7};
  figure.rival = "numpy \"1\"";
  return figure;
}

TEST(AggregateReportTest, Table_HasFiguresAndDashesForWhatIsAbsent) {
  const std::string table = AggregateTable({Figure()});
  EXPECT_THAT(table, AllOf(HasSubstr("1000000"), HasSubstr("80%"),
                           HasSubstr("20.00x"), HasSubstr(" - ")));
}

TEST(AggregateReportTest, Json_IsEscapedAndComplete) {
  EXPECT_EQ(
      AggregateJson({Figure()}),
      "[{\"updates\":10,\"parameters\":1000000,\"threads\":2,\"seconds\":0.001,"
      "\"input_gb_per_s\":40,\"read_gb_per_s\":50,\"of_read\":0.8,"
      "\"largest_error\":0,\"np_average\":{\"seconds\":0.02,\"speedup\":20,"
      "\"largest_difference\":1e-07},\"np_average_fp32\":null,"
      "\"blas_matvec\":null,"
      "\"rival\":\"numpy \\\"1\\\"\"}]\n");
  EXPECT_EQ(AggregateJson({}), "[]\n");
}

}  // namespace
}  // namespace koinon::tools
