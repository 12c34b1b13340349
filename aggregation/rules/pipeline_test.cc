#include "aggregation/rules/pipeline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "aggregation/core/testing_updates.h"
#include "aggregation/rules/testing_rules.h"
#include "base/status_matchers.h"

namespace koinon::aggregation {
namespace {

using ::testing::AllOf;
using ::testing::DoubleNear;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Gram matrices are good to about seven digits.
constexpr double kGram = 1e-5;

// One number of each update.
template <typename Get>
std::vector<double> Of(const Outcome& outcome, Get get) {
  std::vector<double> values;
  for (const auto& decision : outcome.report.updates()) {
    values.push_back(static_cast<double>(get(decision)));
  }
  return values;
}
std::vector<double> Coefficients(const Outcome& outcome) {
  return Of(outcome, [](const auto& d) { return d.coefficient(); });
}
std::vector<double> Selected(const Outcome& outcome) {
  return Of(outcome, [](const auto& d) { return d.selected(); });
}
std::vector<double> Scores(const Outcome& outcome) {
  return Of(outcome, [](const auto& d) { return d.score(); });
}
std::vector<double> ClipFactors(const Outcome& outcome) {
  return Of(outcome, [](const auto& d) { return d.clip_factor(); });
}

TEST(PipelineReportTest, FedAvg_HasCoefficientsAndNothingElse) {
  const Outcome outcome =
      AggregateBy("fedavg {}", TestSet({{1}, {2}}, {30, 10}));
  ASSERT_OK(outcome.status);
  EXPECT_THAT(Coefficients(outcome), ElementsAre(0.75, 0.25));
  EXPECT_EQ(outcome.report.total_weight(), 40);
  for (const auto& decision : outcome.report.updates()) {
    EXPECT_FALSE(decision.has_norm());
    EXPECT_FALSE(decision.has_score());
    EXPECT_FALSE(decision.has_selected());
    EXPECT_FALSE(decision.has_clip_factor());
    EXPECT_FALSE(decision.has_outside_share());
  }
  EXPECT_FALSE(outcome.report.has_f());
  EXPECT_FALSE(outcome.report.has_iterations());
}

TEST(PipelineReportTest, MultiKrum_HasScoresNormsAndTheChoice) {
  const TestRows rows = {{0, 3}, {0, 4}, {0, 5}, {0, 6}, {0, 90}};
  const Outcome outcome = AggregateBy("multi_krum { f: 1 m: 2 }", rows);
  ASSERT_OK(outcome.status);
  // The two nearest others.
  EXPECT_THAT(Scores(outcome),
              ElementsAre(DoubleNear(5, kGram), DoubleNear(2, kGram),
                          DoubleNear(2, kGram), DoubleNear(5, kGram),
                          DoubleNear(84 * 84 + 85 * 85, 1)));
  EXPECT_THAT(Selected(outcome), ElementsAre(0, 1, 1, 0, 0));
  EXPECT_THAT(Coefficients(outcome), ElementsAre(0, 0.5, 0.5, 0, 0));
  EXPECT_NEAR(outcome.report.updates(1).norm(), 4, kGram);
  EXPECT_NEAR(outcome.report.updates(4).norm(), 90, 90 * kGram);
  EXPECT_EQ(outcome.report.f(), 1);
  EXPECT_EQ(outcome.report.total_weight(), 2);
  EXPECT_THAT(outcome.values, ElementsAre(0, 4.5f));
}

TEST(PipelineReportTest, FractionOfAttackers_IsReportedAsACount) {
  const Outcome outcome =
      AggregateBy("median { f_fraction: 0.34 }", RandomRows(7, 3, 1));
  EXPECT_EQ(outcome.report.f(), 2);
}

TEST(PipelineReportTest, CoordinateRules_HaveOutsideShares) {
  const TestRows rows = {
      {0, 0, 5, 5}, {1, 1, 1, 1}, {2, 2, 2, 2}, {3, -3, 3, 3}, {9, 9, -9, 9}};
  const Outcome outcome = AggregateBy("trimmed_mean { f: 1 }", rows);
  ASSERT_OK(outcome.status);
  EXPECT_EQ(outcome.report.trimmed_per_side(), 1);
  EXPECT_EQ(outcome.report.sampled_coordinates(), 4);
  EXPECT_THAT(Of(outcome, [](const auto& d) { return d.outside_share(); }),
              ElementsAre(0.5, 0.25, 0, 0.25, 1));
  for (const auto& decision : outcome.report.updates()) {
    EXPECT_FALSE(decision.has_coefficient());
  }
}

TEST(PipelineReportTest, Bulyan_HasSharesOnlyOfTheChosen) {
  const Outcome outcome = AggregateBy("bulyan { f: 1 }", RandomRows(7, 50, 2));
  ASSERT_OK(outcome.status);
  size_t chosen = 0;
  for (const auto& decision : outcome.report.updates()) {
    EXPECT_EQ(decision.selected(), decision.has_outside_share());
    chosen += decision.selected();
  }
  EXPECT_EQ(chosen, 5);
}

TEST(PipelineReportTest, Iterations_AreThoseMade) {
  const Outcome exact =
      AggregateBy("geometric_median {}", RandomRows(9, 20, 3));
  EXPECT_GT(exact.report.iterations(), 1);
  EXPECT_TRUE(exact.report.converged());
  const Outcome cut = AggregateBy("geometric_median { max_iterations: 2 }",
                                  RandomRows(9, 20, 3));
  EXPECT_EQ(cut.report.iterations(), 2);
  EXPECT_TRUE(cut.report.has_converged());
  EXPECT_FALSE(cut.report.converged());
  const Outcome fixed =
      AggregateBy("geometric_median { fixed {} }", RandomRows(9, 20, 3));
  EXPECT_EQ(fixed.report.iterations(), 4);
  EXPECT_FALSE(fixed.report.has_converged());
}

TEST(PipelineReportTest, ClipFactors_OfStepsAndRuleAreMultiplied) {
  const Outcome outcome = AggregateBy(
      "centered_clipping { tau: 1 } pre_aggregation { norm_clipping { norm: 2 "
      "} "
      "}",
      TestRows{{4, 0}, {0, 1}});
  ASSERT_OK(outcome.status);
  // {4, 0} to {2, 0}, and that to {1, 0}.
  EXPECT_THAT(ClipFactors(outcome), ElementsAre(DoubleNear(0.25, kGram), 1));
  EXPECT_THAT(Coefficients(outcome),
              ElementsAre(DoubleNear(0.125, kGram), DoubleNear(0.5, kGram)));
  EXPECT_THAT(outcome.report.pre_aggregation(), ElementsAre("norm_clipping"));
}

TEST(PipelineReportTest, Dropped_SaysWhyAndHasNoPartInTheResult) {
  const Outcome outcome = AggregateBy(
      "fedavg {} pre_aggregation { norm_bounding { norm: 5 outside: DROPPED } "
      "}",
      TestSet({{3}, {30}, {4}}, {1, 100, 3}));
  ASSERT_OK(outcome.status);
  EXPECT_THAT(Coefficients(outcome), ElementsAre(0.25, 0, 0.75));
  EXPECT_THAT(outcome.report.updates(1).dropped(), HasSubstr("norm 30"));
  EXPECT_THAT(outcome.report.updates(0).dropped(), IsEmpty());
  EXPECT_EQ(outcome.report.total_weight(), 4);
  EXPECT_THAT(outcome.values, ElementsAre(3.75f));
}

TEST(PipelineTest, ZeroedUpdates_KeepTheirWeight) {
  const Outcome outcome =
      AggregateBy("fedavg {} pre_aggregation { norm_bounding { norm: 5 } }",
                  TestSet({{3}, {30}, {4}}, {1, 4, 3}));
  ASSERT_OK(outcome.status);
  EXPECT_THAT(Coefficients(outcome), ElementsAre(0.125, 0, 0.375));
  EXPECT_THAT(outcome.values, ElementsAre(1.875f));
  // All of them: nothing is left, and nothing is divided by it.
  EXPECT_THAT(
      AggregateBy("fedavg {} pre_aggregation { norm_bounding { norm: 1 } }",
                  TestRows{{3}, {30}})
          .values,
      ElementsAre(0));
}

TEST(PipelineTest, DroppedUpdates_DoNotCountForTheRule) {
  TestRows rows = RandomRows(5, 4, 4);
  for (float& x : rows[2]) x = 1000;
  const Outcome outcome = AggregateBy(
      "krum { f: 1 } "
      "pre_aggregation { norm_bounding { norm: 100 outside: DROPPED } }",
      rows);
  EXPECT_THAT(outcome.status,
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("2f + 3 = 5"),
                             HasSubstr("got 4 after the pre-aggregations of 5 "
                                       "updates"))));
  EXPECT_EQ(outcome.committed, 0);
}

TEST(PipelineTest, Buckets_AreMappedBackToTheirUpdates) {
  const Outcome outcome =
      AggregateBy("krum { f: 1 } pre_aggregation { bucketing { size: 2 } }",
                  RandomRows(12, 30, 5));
  ASSERT_OK(outcome.status);
  size_t selected = 0;
  for (const auto& decision : outcome.report.updates()) {
    EXPECT_EQ(decision.coefficient(), decision.selected() ? 0.5 : 0);
    EXPECT_TRUE(decision.has_score());
    selected += decision.selected();
  }
  EXPECT_EQ(selected, 2);
}

TEST(PipelineTest, Seed_DecidesTheBuckets) {
  const TestRows rows = RandomRows(12, 30, 6);
  const std::string spec =
      "median {} pre_aggregation { bucketing { size: 2 } }";
  const Outcome one = AggregateBy(spec, rows, {.seed = 1});
  EXPECT_TRUE(
      SameBits(AggregateBy(spec, rows, {.seed = 1}).values, one.values));
  EXPECT_FALSE(
      SameBits(AggregateBy(spec, rows, {.seed = 2}).values, one.values));
}

TEST(PipelineTest, TwoBucketings_AreBucketsOfBuckets) {
  const Outcome outcome = AggregateBy(
      "fedavg { uniform: true } pre_aggregation { bucketing { size: 2 } } "
      "pre_aggregation { bucketing { size: 2 } }",
      TestRows{{4}, {8}, {0}, {-4}});
  ASSERT_OK(outcome.status);
  EXPECT_THAT(Coefficients(outcome), Each(0.25));
  EXPECT_THAT(outcome.values, ElementsAre(2));
}

TEST(PipelineTest, PreviousAggregate_IsUsedByRulesThatKeepIt) {
  const std::vector<float> before = {10, 0};
  const MemorySource previous(before);
  const TestRows rows = {{14, 0}, {10, 2}};
  const Outcome outcome = AggregateBy("centered_clipping { tau: 2 }", rows,
                                      {.previous = &previous});
  ASSERT_OK(outcome.status);
  // Differences {4, 0} clipped by 1/2 and {0, 2}; v gives way by 3/4.
  EXPECT_THAT(outcome.values, ElementsAre(11, 1));
  EXPECT_THAT(Coefficients(outcome),
              ElementsAre(DoubleNear(0.25, kGram), DoubleNear(0.5, kGram)));
  // Others do not look at it.
  EXPECT_TRUE(SameBits(
      AggregateBy("geometric_median {}", rows, {.previous = &previous}).values,
      AggregateBy("geometric_median {}", rows).values));
}

TEST(PipelineTest, UnreadablePreviousAggregate_BlamesNobody) {
  const CopyingSource previous({1, 2}, 1);
  const Outcome outcome =
      AggregateBy("centered_clipping { tau: 2 }", TestRows{{1, 2}, {3, 4}},
                  {.previous = &previous});
  EXPECT_THAT(outcome.status, StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_EQ(BlamedWorker(outcome.status), std::nullopt);
}

TEST(PipelineTest, TooManyToCompare_AreRefusedWithTheBound) {
  const TestRows rows(kMostComparedUpdates + 1, {1});
  const UpdateSet set = TestSet(rows, std::vector<double>(rows.size(), 1));
  for (const char* spec :
       {"krum {}", "fedavg {} pre_aggregation { arc { f: 1 } }",
        "median {} pre_aggregation { bucketing { size: 2 } }"}) {
    EXPECT_THAT(
        AggregateBy(spec, set).status,
        StatusIs(absl::StatusCode::kFailedPrecondition,
                 AllOf(HasSubstr("at most 4096"), HasSubstr("got 4097"))));
  }
  EXPECT_OK(AggregateBy("median {}", set).status);
  EXPECT_OK(
      AggregateBy("fedavg {} pre_aggregation { bucketing { size: 2 } }", set)
          .status);
}

class CountingSource final : public UpdateSource {
 public:
  CountingSource(std::vector<float> values, std::atomic<size_t>* count)
      : values_(std::move(values)), count_(count) {}
  absl::StatusOr<const float*> Read(size_t offset, size_t count,
                                    float* scratch) const override {
    *count_ += count;
    return values_.Read(offset, count, scratch);
  }

 private:
  const VectorSource values_;
  std::atomic<size_t>* const count_;
};

// Elements read per element of an update.
double ReadsOf(const std::string& spec) {
  const size_t n = 10, elements = 20'000;
  std::atomic<size_t> count = 0;
  std::vector<Update> updates;
  const TestRows rows = RandomRows(n, elements, 8);
  for (size_t i = 0; i < n; ++i) {
    updates.push_back(TestUpdate(absl::StrFormat("w%03d", i), rows[i]));
    updates.back().values = std::make_unique<CountingSource>(rows[i], &count);
  }
  std::vector<Refusal> refusals;
  const UpdateSet set =
      UpdateSet::Create(TestExpected(elements), std::move(updates), &refusals);
  EXPECT_OK(AggregateBy(spec, set).status);
  return static_cast<double>(count) / (n * elements);
}

// FedAvg needs no distances; geometric medians need them once, however many
// steps they make; Krum reads only what it selected again. A pass for the Gram
// matrix may read twice where the first centre was a bad one.
TEST(PipelineTest, Passes_AreThoseThatARuleNeeds) {
  EXPECT_EQ(ReadsOf("fedavg {}"), 1);
  EXPECT_EQ(ReadsOf("fedavg {} pre_aggregation { bucketing { size: 3 } }"), 1);
  EXPECT_LT(ReadsOf("median {}"), 1.5);
  const double gram = ReadsOf("krum { f: 2 }") - 0.1;
  EXPECT_GE(gram, 1);
  EXPECT_DOUBLE_EQ(ReadsOf("multi_krum { f: 2 m: 4 }"), gram + 0.4);
  EXPECT_DOUBLE_EQ(ReadsOf("geometric_median { fixed { iterations: 1 } }"),
                   gram + 1);
  EXPECT_DOUBLE_EQ(ReadsOf("geometric_median { fixed { iterations: 99 } }"),
                   gram + 1);
}

}  // namespace
}  // namespace koinon::aggregation
