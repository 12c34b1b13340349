#include "aggregation/rules/fixed_point_mean.h"

#include <gtest/gtest.h>

#include <algorithm>
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
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Values = std::vector<std::vector<float>>;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

v1::AggregationSpec Spec(double range = 16) {
  v1::AggregationSpec spec;
  spec.mutable_fedavg()->set_arithmetic(
      v1::AggregationSpec::FedAvg::FIXED_POINT);
  spec.mutable_fedavg()->mutable_fixed_point()->set_range(range);
  return spec;
}

std::unique_ptr<Aggregator> Rule(
    const v1::AggregationSpec& spec = Spec(),
    InstructionSet instruction_set = InstructionSet::kBest) {
  auto rule = MakeFixedPointMean(spec, {.instruction_set = instruction_set});
  EXPECT_OK(rule);
  return *std::move(rule);
}

std::vector<float> Mean(const UpdateSet& set, const Aggregator& rule = *Rule(),
                        int threads = 1) {
  ThreadPool pool(threads);
  CheckingSink sink(set.elements());
  EXPECT_OK(rule.Aggregate(set, {.pool = &pool}, &sink));
  EXPECT_EQ(sink.committed, set.elements());
  return sink.values;
}

absl::Status Failure(const UpdateSet& set,
                     const v1::AggregationSpec& spec = Spec()) {
  ThreadPool pool(1);
  CheckingSink sink(set.elements());
  return Rule(spec)->Aggregate(set, {.pool = &pool}, &sink).status();
}

// Within the range of Spec().
Values SmallRows(size_t n, size_t elements, uint64_t seed) {
  Values rows = RandomRows(n, elements, seed);
  for (auto& row : rows) {
    for (float& x : row) x = std::clamp(x, -8.0f, 8.0f);
  }
  return rows;
}

TEST(FixedPointMeanTest, NoUpdates_IsRefused) {
  EXPECT_THAT(Rule()->Validate(TestSet({}, {})),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("at least 1"), HasSubstr("got 0"))));
}

TEST(FixedPointMeanTest, TwoUpdates_AreWeightedByExamples) {
  EXPECT_THAT(Mean(TestSet({{1, -4}, {5, 4}}, {3, 1})), ElementsAre(2, -2));
  v1::AggregationSpec uniform = Spec();
  uniform.mutable_fedavg()->set_uniform(true);
  EXPECT_THAT(Mean(TestSet({{1, -4}, {5, 4}}, {3, 1}), *Rule(uniform)),
              ElementsAre(3, 0));
  v1::AggregationSpec capped = Spec();
  capped.set_max_weight(1);
  EXPECT_THAT(Mean(TestSet({{1, -4}, {5, 4}}, {3, 1}), *Rule(capped)),
              ElementsAre(3, 0));
}

TEST(FixedPointMeanTest, RandomRounds_AreWithinTheResolutionOfTheReference) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Random random(seed);
    const size_t n = 1 + random.NextBelow(40);
    const Values rows = SmallRows(n, 1 + random.NextBelow(300), seed);
    std::vector<double> weights;
    double total = 0;
    for (size_t i = 0; i < n; ++i) {
      weights.push_back(1.0 + random.NextBelow(100'000));
      total += weights.back();
    }
    const std::vector<absl::Span<const float>> spans(rows.begin(), rows.end());
    const ReferenceMean reference = MeanReference(spans, weights);
    const std::vector<float> got = Mean(TestSet(rows, weights));
    // Each of n terms is off by at most half a step of the sum.
    const FixedPoint format = *FixedPoint::Of(Spec().fedavg());
    const double bound = n * std::ldexp(0.5, -format.bits) / total;
    for (size_t j = 0; j < got.size(); ++j) {
      ASSERT_NEAR(got[j], reference.mean[j],
                  bound + MeanTolerance(reference, j))
          << "element " << j << " seed " << seed;
    }
  }
}

TEST(FixedPointMeanTest, ThreadsSourcesAndInstructionSets_GiveTheSameBytes) {
  constexpr size_t kElements = 3 * kFixedPointBlock + 77;
  const Values rows = SmallRows(37, kElements, 3);
  std::vector<double> weights;
  for (size_t i = 0; i < rows.size(); ++i) weights.push_back(3.0 + 7 * i);
  const UpdateSet set = TestSet(rows, weights);
  const std::vector<float> expected = Mean(set);
  for (InstructionSet isa : SupportedInstructionSets()) {
    EXPECT_TRUE(SameBits(Mean(set, *Rule(Spec(), isa), 3), expected))
        << InstructionSetName(isa);
  }
  std::vector<Update> copies;
  for (size_t i = rows.size(); i-- > 0;) {
    copies.push_back(
        TestUpdate(absl::StrFormat("w%03d", i), rows[i], weights[i]));
    copies.back().values = std::make_unique<CopyingSource>(rows[i]);
  }
  std::vector<Refusal> refusals;
  const UpdateSet copied =
      UpdateSet::Create(TestExpected(kElements), std::move(copies), &refusals);
  ASSERT_EQ(copied.size(), rows.size());
  EXPECT_TRUE(SameBits(Mean(copied, *Rule(), 2), expected));
}

TEST(FixedPointMeanTest, PiecesInAnyOrder_GiveTheBytesOfTheWhole) {
  constexpr size_t kElements = kFixedPointBlock + 1000;
  const v1::AggregationSpec spec = Spec();
  const FixedPoint format = *FixedPoint::Of(spec.fedavg());
  const Values values = SmallRows(21, kElements, 4);
  std::vector<double> examples;
  for (size_t i = 0; i < values.size(); ++i) examples.push_back(1e8 + 7 * i);
  const UpdateSet set = TestSet(values, examples);
  const std::vector<float> expected = Mean(set);
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    Random random(seed);
    std::vector<size_t> order(values.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    random.Shuffle(&order);
    std::vector<int64_t> sums(kElements);
    std::vector<float> scratch;
    double total = 0;
    const Rows all = RowsOf(set);
    for (size_t begin = 0; begin < order.size();) {
      Rows rows;
      std::vector<double> weights;
      const size_t size = 1 + random.NextBelow(18);
      for (size_t i = begin; i < std::min(order.size(), begin + size); ++i) {
        rows.push_back(all[order[i]]);
        weights.push_back(FixedPointWeightOf(spec, set.weight(order[i])));
        total += weights.back();
      }
      begin += size;
      for (size_t at = 0; at < kElements; at += 5000) {
        ASSERT_OK(AddFixedPointRows(format, set.layout(), rows, weights, at,
                                    absl::MakeSpan(sums).subspan(at, 5000),
                                    SupportedInstructionSets().front(),
                                    &scratch));
      }
    }
    CheckingSink sink(kElements);
    ASSERT_OK(WriteFixedPointMean(
        format, total, kElements,
        [&](size_t offset, absl::Span<int64_t> out) {
          std::copy_n(sums.begin() + offset, out.size(), out.begin());
          return absl::OkStatus();
        },
        &sink));
    EXPECT_TRUE(SameBits(sink.values, expected)) << "seed " << seed;
  }
}

TEST(FixedPointMeanTest, ValueBeyondTheRange_BlamesTheWorker) {
  for (const auto& [bad, said] : std::vector<std::pair<float, const char*>>{
           {16.5f, "is 16.5, expected at most 16"},
           {kNan, "is nan"},
           {-std::numeric_limits<float>::infinity(), "is -inf"}}) {
    Values rows = SmallRows(20, 40'000, 5);
    rows[18][39'000] = bad;
    const absl::Status status =
        Failure(TestSet(rows, std::vector<double>(20, 1)));
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument,
                                 AllOf(HasSubstr("b[19000]"), HasSubstr(said),
                                       HasSubstr("fixed_point.range"))));
    EXPECT_EQ(BlamedWorker(status), "w018");
  }
}

TEST(FixedPointMeanTest, MoreWeightThanTheBound_IsRefused) {
  v1::AggregationSpec spec = Spec();
  spec.mutable_fedavg()->mutable_fixed_point()->set_total_weight(10);
  EXPECT_OK(Failure(TestSet({{1}, {2}}, {5, 5}), spec));
  EXPECT_THAT(Failure(TestSet({{1}, {2}}, {5, 6}), spec),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("add up to 11, expected at most 10")));
}

TEST(FixedPointMeanTest, SourceOrSinkThatFails_EndsIt) {
  std::vector<Update> updates;
  updates.push_back(TestUpdate("a", std::vector<float>(100, 1)));
  updates.push_back(TestUpdate("b", std::vector<float>(100, 1)));
  updates[1].values =
      std::make_unique<CopyingSource>(std::vector<float>(100, 1), 50);
  std::vector<Refusal> refusals;
  const UpdateSet set =
      UpdateSet::Create(TestExpected(100), std::move(updates), &refusals);
  EXPECT_EQ(BlamedWorker(Failure(set)), "b");
  ThreadPool pool(1);
  CheckingSink sink(100, /*fails_at=*/7);
  EXPECT_FALSE(Rule()
                   ->Aggregate(TestSet(SmallRows(2, 100, 1), {1, 1}),
                               {.pool = &pool}, &sink)
                   .ok());
}

TEST(FixedPointMeanTest, Report_HoldsWhatEachCountedFor) {
  ThreadPool pool(1);
  CheckingSink sink(1);
  ASSERT_OK_AND_ASSIGN(
      const v1::AggregationReport report,
      Rule(Spec(), InstructionSet::kPortable)
          ->Aggregate(TestSet({{1}, {2}}, {3, 1}), {.pool = &pool}, &sink));
  EXPECT_EQ(report.rule(), "fedavg");
  EXPECT_EQ(report.total_weight(), 4);
  EXPECT_EQ(report.instruction_set(), "portable");
  ASSERT_EQ(report.updates_size(), 2);
  EXPECT_EQ(report.updates(0).worker(), "w000");
  EXPECT_EQ(report.updates(0).coefficient(), 0.75);
  EXPECT_EQ(report.updates(1).coefficient(), 0.25);
}

TEST(FixedPointMeanTest, DiscountedUpdate_CountsAsThatPartOfItsValues) {
  std::vector<Update> updates;
  updates.push_back(TestUpdate("a", {4}, 1));
  updates.push_back(TestUpdate("b", {8}, 1));
  updates[1].discount = 0.5;
  std::vector<Refusal> refusals;
  const UpdateSet set =
      UpdateSet::Create(TestExpected(1), std::move(updates), &refusals);
  EXPECT_THAT(Mean(set), ElementsAre(4));
}

TEST(FixedPointMeanTest, ContradictoryOptions_AreRefused) {
  v1::AggregationSpec spec = Spec();
  spec.add_pre_aggregation()->mutable_bucketing()->set_size(2);
  EXPECT_THAT(MakeFixedPointMean(spec),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("expected arithmetic DOUBLE")));
  spec = Spec();
  spec.set_max_weight(3);
  spec.mutable_fedavg()->set_uniform(true);
  EXPECT_THAT(
      MakeFixedPointMean(spec),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("max_weight")));
  EXPECT_THAT(MakeFixedPointMean(Spec(-1)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("fixed_point.range")));
}

}  // namespace
}  // namespace koinon::aggregation
