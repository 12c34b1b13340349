#include "aggregation/rules/fedavg.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "aggregation/core/testing_updates.h"
#include "aggregation/reference/mean.h"
#include "base/random.h"
#include "base/status_matchers.h"

namespace koinon::aggregation {
namespace {

using ::testing::AllOf;
using ::testing::DoubleEq;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Rows = std::vector<std::vector<float>>;
using Limits = std::numeric_limits<float>;

std::unique_ptr<Aggregator> FedAvg(bool uniform = false,
                                   int64_t max_weight = 0) {
  v1::AggregationSpec spec;
  spec.mutable_fedavg()->set_uniform(uniform);
  spec.set_max_weight(max_weight);
  auto rule = MakeAggregator(spec);
  EXPECT_OK(rule);
  return *std::move(rule);
}

std::vector<float> Mean(const UpdateSet& set, int threads = 1,
                        const Aggregator& rule = *FedAvg()) {
  ThreadPool pool(threads);
  CheckingSink sink(set.elements());
  EXPECT_OK(rule.Aggregate(set, {.pool = &pool}, &sink));
  EXPECT_EQ(sink.committed, set.elements());
  return sink.values;
}

void ExpectMatchesReference(const Rows& rows,
                            const std::vector<double>& weights,
                            const std::vector<float>& got) {
  const std::vector<absl::Span<const float>> spans(rows.begin(), rows.end());
  const ReferenceMean reference = MeanReference(spans, weights);
  for (size_t j = 0; j < got.size(); ++j) {
    ASSERT_NEAR(got[j], reference.mean[j], MeanTolerance(reference, j))
        << "element " << j;
  }
}

TEST(FedAvgTest, NoUpdates_IsRefused) {
  const UpdateSet set = TestSet({}, {});
  EXPECT_THAT(FedAvg()->Validate(set),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("at least 1"), HasSubstr("got 0"))));
  ThreadPool pool(1);
  CheckingSink sink(1);
  EXPECT_THAT(FedAvg()->Aggregate(set, {.pool = &pool}, &sink),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_EQ(sink.committed, 0);
}

// With every weight zero the set is empty, so that nothing is divided by zero.
TEST(FedAvgTest, ZeroTotalWeight_IsRefused) {
  std::vector<Update> updates;
  updates.push_back(TestUpdate("a", {1}, 0));
  updates.push_back(TestUpdate("b", {2}, 0));
  std::vector<Refusal> refusals;
  const UpdateSet set =
      UpdateSet::Create(TestExpected(1), std::move(updates), &refusals);
  EXPECT_EQ(refusals.size(), 2);
  EXPECT_THAT(FedAvg()->Validate(set),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST(FedAvgTest, OtherTypesThanF32_AreRefused) {
  UpdateSet::Expected expected;
  ASSERT_OK_AND_ASSIGN(expected.layout,
                       ModelLayout::Create({{"n", DType::kI64, {1}}}));
  Update update = TestUpdate("a", {1});
  update.layout_hash = expected.layout.hash();
  update.base_version = 0;
  std::vector<Update> updates;
  updates.push_back(std::move(update));
  std::vector<Refusal> refusals;
  const UpdateSet set =
      UpdateSet::Create(expected, std::move(updates), &refusals);
  ASSERT_EQ(set.size(), 1);
  EXPECT_THAT(
      FedAvg()->Validate(set),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("F32")));
}

TEST(FedAvgTest, OneUpdate_IsItsOwnMeanBitForBit) {
  const std::vector<float> values = {0.0f,
                                     -0.0f,
                                     1.1f,
                                     -3.3f,
                                     Limits::max(),
                                     Limits::min(),
                                     Limits::lowest(),
                                     Limits::denorm_min(),
                                     -Limits::denorm_min(),
                                     1e-40f,
                                     0x1.fffffep-1f};
  for (double weight : {1.0, 3.0, 1e-200, 0.1, 9e15}) {
    EXPECT_TRUE(SameBits(Mean(TestSet({values}, {weight})), values))
        << "weight " << weight;
  }
  const Rows many = RandomRows(1, 70'000, 11);
  EXPECT_TRUE(SameBits(Mean(TestSet(many, {37})), many[0]));
}

TEST(FedAvgTest, TwoUpdates_AreWeightedByExamples) {
  EXPECT_THAT(Mean(TestSet({{1, -4}, {5, 4}}, {3, 1})), ElementsAre(2, -2));
}

TEST(FedAvgTest, EqualUpdates_AreTheirMeanBitForBit) {
  const Rows row = RandomRows(1, 5000, 12);
  for (size_t n : {2, 3, 10, 33}) {
    std::vector<double> weights;
    for (size_t i = 0; i < n; ++i) weights.push_back(1.0 + 7 * i);
    EXPECT_TRUE(SameBits(Mean(TestSet(Rows(n, row[0]), weights)), row[0]))
        << "n=" << n;
  }
}

TEST(FedAvgTest, SignedZeros_KeepTheirSign) {
  const Rows rows = {{-0.0f, -0.0f, 1}, {-0.0f, 0.0f, -1}};
  EXPECT_TRUE(SameBits(Mean(TestSet(rows, {1, 1})), {-0.0f, 0.0f, 0.0f}));
}

TEST(FedAvgTest, Subnormals_AreNotFlushed) {
  const float tiny = Limits::denorm_min();
  EXPECT_THAT(Mean(TestSet({{6 * tiny, tiny}, {2 * tiny, tiny}}, {1, 1})),
              ElementsAre(4 * tiny, tiny));
}

TEST(FedAvgTest, LargestValues_DoNotOverflow) {
  const float max = Limits::max();
  const Rows rows(30, {max, -max, max});
  EXPECT_THAT(Mean(TestSet(rows, std::vector<double>(30, 9e15))),
              ElementsAre(max, -max, max));
}

TEST(FedAvgTest, CancellingValues_LeaveTheSmallOne) {
  // In fp32, 1e8 + 1 - 1e8 is 0.
  EXPECT_THAT(Mean(TestSet({{1e8f}, {3}, {-1e8f}}, {1, 1, 1})), ElementsAre(1));
}

TEST(FedAvgTest, Report_HasRuleWeightsAndTotal) {
  ThreadPool pool(1);
  CheckingSink sink(1);
  ASSERT_OK_AND_ASSIGN(const v1::AggregationReport report,
                       FedAvg()->Aggregate(TestSet({{1}, {2}}, {30, 10}),
                                           {.pool = &pool}, &sink));
  EXPECT_EQ(report.rule(), "fedavg");
  EXPECT_EQ(report.total_weight(), 40);
  ASSERT_EQ(report.updates_size(), 2);
  EXPECT_EQ(report.updates(0).worker(), "w000");
  EXPECT_DOUBLE_EQ(report.updates(0).coefficient(), 0.75);
  EXPECT_DOUBLE_EQ(report.updates(1).coefficient(), 0.25);
}

TEST(FedAvgTest, Uniform_IgnoresExamples) {
  const UpdateSet set = TestSet({{1}, {2}}, {30, 10});
  EXPECT_THAT(Mean(set, 1, *FedAvg(/*uniform=*/true)), ElementsAre(1.5f));
}

TEST(FedAvgTest, MaxWeight_CapsExamples) {
  const UpdateSet set = TestSet({{0}, {8}}, {10, 3'000'000});
  EXPECT_THAT(Mean(set, 1, *FedAvg(false, 30)), ElementsAre(6));
}

TEST(FedAvgTest, FixedPointOptionsInDouble_AreRefused) {
  v1::AggregationSpec::FedAvg spec;
  spec.mutable_fixed_point()->set_range(4);
  EXPECT_THAT(MakeFedAvg(spec),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("aggregation.fedavg.fixed_point"),
                             HasSubstr("FIXED_POINT"))));
}

TEST(FedAvgTest, NonFiniteValue_IsRefusedWithTheWorker) {
  ThreadPool pool(1);
  CheckingSink sink(2);
  EXPECT_THAT(
      FedAvg()->Aggregate(TestSet({{1, 1}, {1, Limits::quiet_NaN()}}, {1, 1}),
                          {.pool = &pool}, &sink),
      StatusIs(absl::StatusCode::kDataLoss,
               AllOf(HasSubstr("worker w001"), HasSubstr("b[0] is NaN"))));
}

// Random numbers of updates, sizes, scales and weights; seeds are printed.
TEST(FedAvgTest, RandomRounds_MatchTheReference) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(absl::StrFormat("seed %d", seed));
    Random random(seed);
    const size_t n = 1 + random.NextBelow(seed % 5 == 0 ? 120 : 20);
    const size_t elements = 1 + random.NextBelow(9000);
    Rows rows = RandomRows(n, elements, seed);
    for (auto& row : rows) {
      const int exponent = static_cast<int>(random.NextBelow(250)) - 140;
      for (float& x : row) x = std::ldexp(x, exponent);
    }
    std::vector<double> weights;
    for (size_t i = 0; i < n; ++i) {
      weights.push_back(seed % 2 == 0
                            ? 1.0 + static_cast<double>(random.NextBelow(9999))
                            : std::exp(10 * random.NextNormal()));
    }
    const UpdateSet set = TestSet(rows, weights);
    const std::vector<float> got = Mean(set, 1 + static_cast<int>(seed % 3));
    ExpectMatchesReference(rows, weights, got);
    EXPECT_TRUE(SameBits(Mean(set, 5), got));
  }
}

}  // namespace
}  // namespace koinon::aggregation
