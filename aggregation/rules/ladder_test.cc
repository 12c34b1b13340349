// The ladder that every rule climbs, alone and with pre-aggregations: no
// update, too few, one, equal ones, many, permuted, ties, NaN and infinities,
// subnormals, huge values, signed zeros, refused neighbours, discounts,
// threads, instruction sets, attacks. Rule by rule, exact results are in the
// tests of published vectors and of random rounds.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "aggregation/attacks/attacks.h"
#include "aggregation/core/testing_updates.h"
#include "aggregation/rules/testing_rules.h"
#include "base/random.h"
#include "base/status_matchers.h"

namespace koinon::aggregation {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Limits = std::numeric_limits<float>;

struct Rung {
  std::string name;
  std::string spec;
  size_t min_updates = 1;
  // Withstands kAttackers of kUpdates.
  bool robust = false;
  // Keeps the previous aggregate.
  bool keeps = false;
  // May shorten updates, and so leave their range towards zero.
  bool shortens = false;
  // In integers: has a range and a resolution.
  bool fixed_point = false;
};

void PrintTo(const Rung& rung, std::ostream* out) { *out << rung.spec; }

constexpr size_t kUpdates = 15;
constexpr size_t kAttackers = 2;

std::vector<Rung> Rungs() {
  const std::string clip = "pre_aggregation { norm_clipping { norm: 20 } }";
  const std::string mixing =
      "pre_aggregation { nearest_neighbour_mixing { f: 2 } }";
  const std::string bucketing = "pre_aggregation { bucketing { size: 2 } }";
  return {
      {"FedAvg", "fedavg {}"},
      {"FedAvgUniform", "fedavg { uniform: true }"},
      {"FedAvgFixedPoint", "fedavg { arithmetic: FIXED_POINT }", 1, false,
       false, false, true},
      {"Median", "median {}", 1, true},
      {"MedianOfTwo", "median { f: 2 }", 5, true},
      {"MedianOfPart", "median { f_fraction: 0.4 }", 1, true},
      {"WeightedMedian", "median { weighted: true }", 1, true},
      {"TrimmedMean", "trimmed_mean { f: 2 }", 5, true},
      {"TrimmedMeanBeta", "trimmed_mean { beta: 0.2 }", 5, true},
      {"TrimmedMeanOfNobody", "trimmed_mean { f: 0 }"},
      {"Krum", "krum { f: 2 }", 7, true},
      {"KrumFlower", "krum { f: 2 convention: FLOWER }", 3, true},
      {"KrumByzFl", "krum { f: 2 convention: BYZFL }", 5, true},
      {"MultiKrum", "multi_krum { f: 2 }", 7, true},
      {"MultiKrumM", "multi_krum { f: 2 m: 3 }", 7, true},
      {"MultiKrumFlower", "multi_krum { f: 2 convention: FLOWER }", 3, true},
      {"MultiKrumByzFl", "multi_krum { f: 2 convention: BYZFL }", 5, true},
      {"Bulyan", "bulyan { f: 2 }", 11, true},
      {"BulyanOneShot", "bulyan { f: 2 selection: ONE_SHOT }", 11, true},
      {"BulyanOfNobody", "bulyan {}", 3},
      {"GeometricMedian", "geometric_median {}", 1, true},
      {"GeometricMedianWeighted", "geometric_median { weighted: true f: 2 }", 5,
       true},
      {"GeometricMedianFixed", "geometric_median { fixed { iterations: 60 } }",
       1, true},
      {"GeometricMedianFixedZero",
       "geometric_median { fixed { iterations: 60 start: ZERO } }", 1, true},
      {"CenteredClipping", "centered_clipping { tau: 3 iterations: 4 }", 1,
       true, true, true},
      {"ClippedFedAvg", "fedavg {} " + clip, 1, false, false, true},
      {"ClippedMedian", "median {} " + clip, 1, true, false, true},
      {"BoundedFedAvg",
       "fedavg {} pre_aggregation { norm_bounding { norm: 1e30 } }", 1, false,
       false, true},
      {"ArcTrimmedMean",
       "trimmed_mean { f: 2 } pre_aggregation { arc { f: 2 } }", 5, true, false,
       true},
      {"CosineFilteredMedian",
       "median {} pre_aggregation { cosine_filter { threshold: -1 } }", 1,
       true},
      {"MixedMedian", "median {} " + mixing, 5, true},
      {"MixedTrimmedMean", "trimmed_mean { f: 2 } " + mixing, 5, true},
      {"MixedGeometricMedian", "geometric_median {} " + mixing, 5, true},
      {"MixedMultiKrum", "multi_krum { f: 2 } " + mixing, 7, true},
      {"BucketedMedian", "median {} " + bucketing, 1, true},
      {"BucketedKrum", "krum { f: 2 } " + bucketing, 13, true},
      {"ClippedMixedBucketedGeometricMedian",
       "geometric_median {} " + clip + mixing + bucketing, 5, true, false,
       true},
  };
}

class LadderTest : public ::testing::TestWithParam<Rung> {
 protected:
  const Rung& rung() const { return GetParam(); }
  size_t Enough() const { return std::max<size_t>(rung().min_updates, 8); }

  // Succeeds, and every element lies between those of the updates.
  void ExpectWithin(const TestRows& rows) const {
    // Of the default range and total weight of fixed point.
    const float resolution = rung().fixed_point ? 0x1p-26f : 0;
    const Outcome outcome = AggregateBy(rung().spec, rows);
    ASSERT_OK(outcome.status);
    for (size_t j = 0; j < rows[0].size(); ++j) {
      float low = rung().shortens ? 0 : rows[0][j];
      float high = low;
      for (const auto& row : rows) {
        low = std::min(low, row[j]);
        high = std::max(high, row[j]);
      }
      EXPECT_GE(outcome.values[j], low - resolution) << "element " << j;
      EXPECT_LE(outcome.values[j], high + resolution) << "element " << j;
    }
  }

  void ExpectBlamed(float bad) const {
    TestRows rows = RandomRows(Enough(), 300, 3);
    rows[4][170] = bad;
    const Outcome outcome = AggregateBy(rung().spec, rows);
    EXPECT_THAT(outcome.status,
                StatusIs(rung().fixed_point ? absl::StatusCode::kInvalidArgument
                                            : absl::StatusCode::kDataLoss,
                         HasSubstr("b[20]")));
    EXPECT_EQ(BlamedWorker(outcome.status), "w004");
  }
};

TEST_P(LadderTest, NoUpdates_AreRefused) {
  const Outcome outcome = AggregateBy(rung().spec, TestRows());
  EXPECT_THAT(outcome.status,
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("at least"), HasSubstr("got 0"))));
  EXPECT_EQ(outcome.committed, 0);
}

TEST_P(LadderTest, TooFewUpdates_AreRefusedWithBothNumbers) {
  ASSERT_OK_AND_ASSIGN(const auto rule, MakeAggregator(SpecOf(rung().spec)));
  EXPECT_EQ(rule->MinUpdates(), rung().min_updates);
  for (size_t n = 1; n < rung().min_updates; ++n) {
    const Outcome outcome = AggregateBy(rung().spec, RandomRows(n, 10, 1));
    EXPECT_THAT(outcome.status,
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         AllOf(HasSubstr("needs"), HasSubstr("got "))));
    EXPECT_EQ(outcome.committed, 0);
  }
  EXPECT_OK(
      AggregateBy(rung().spec, RandomRows(rung().min_updates, 10, 1)).status);
}

TEST_P(LadderTest, OneAndTwo_StayWithinTheUpdates) {
  for (size_t n : {1, 2}) {
    if (n >= rung().min_updates) ExpectWithin(RandomRows(n, 100, 2));
  }
}

TEST_P(LadderTest, EqualUpdates_AreTheResult) {
  // Short enough that nothing clips them.
  TestRows row = RandomRows(1, 900, 4);
  for (float& x : row[0]) x *= 0.01f;
  const Outcome outcome =
      AggregateBy(rung().spec, TestRows(Enough() + 1, row[0]));
  ASSERT_OK(outcome.status);
  if (rung().fixed_point || rung().shortens) {
    // Half a unit of the resolution, 2^-26; four clippings of nothing.
    EXPECT_LE(Distance(outcome.values, row[0]), 900 * 0x1p-27);
  } else {
    EXPECT_TRUE(SameBits(outcome.values, row[0]));
  }
}

TEST_P(LadderTest, AnyOrderOfArrival_GivesTheSameBytesAndReport) {
  const TestRows rows = RandomRows(kUpdates, 500, 5);
  Random random(5);
  std::string report;
  std::vector<float> values;
  for (int trial = 0; trial < 4; ++trial) {
    std::vector<size_t> order(kUpdates);
    for (size_t i = 0; i < kUpdates; ++i) order[i] = i;
    if (trial > 0) random.Shuffle(&order);
    std::vector<Update> updates;
    for (size_t i : order) {
      updates.push_back(TestUpdate(absl::StrFormat("w%03d", i), rows[i],
                                   1 + static_cast<double>(i)));
    }
    std::vector<Refusal> refusals;
    const UpdateSet set =
        UpdateSet::Create(TestExpected(500), std::move(updates), &refusals);
    const Outcome outcome = AggregateBy(rung().spec, set);
    ASSERT_OK(outcome.status);
    if (trial == 0) {
      values = outcome.values;
      report = outcome.report.SerializeAsString();
    }
    EXPECT_TRUE(SameBits(outcome.values, values));
    EXPECT_EQ(outcome.report.SerializeAsString(), report);
  }
}

TEST_P(LadderTest, AnyNumberOfThreads_GivesTheSameBytesAndReport) {
  const TestRows rows = RandomRows(kUpdates, 70'001, 6);
  const Outcome one = AggregateBy(rung().spec, rows, {.threads = 1});
  ASSERT_OK(one.status);
  for (int threads : {2, 5}) {
    const Outcome many = AggregateBy(rung().spec, rows, {.threads = threads});
    EXPECT_TRUE(SameBits(many.values, one.values)) << threads;
    EXPECT_EQ(many.report.SerializeAsString(), one.report.SerializeAsString());
  }
}

// Not only those that select: the passes over the parameters promise the same
// bits everywhere, and what lies between is plain double.
TEST_P(LadderTest, AnyInstructionSet_GivesTheSameBytes) {
  const TestRows rows = RandomRows(kUpdates, 5003, 7);
  const Outcome best = AggregateBy(rung().spec, rows);
  ASSERT_OK(best.status);
  for (InstructionSet set : SupportedInstructionSets()) {
    const Outcome outcome =
        AggregateBy(rung().spec, rows, {.instruction_set = set});
    ASSERT_OK(outcome.status);
    EXPECT_EQ(outcome.report.instruction_set(), InstructionSetName(set));
    EXPECT_TRUE(SameBits(outcome.values, best.values))
        << InstructionSetName(set);
  }
}

TEST_P(LadderTest, Report_HasEveryUpdateInCanonicalOrder) {
  const Outcome outcome = AggregateBy(rung().spec, RandomRows(kUpdates, 40, 8));
  ASSERT_OK(outcome.status);
  const v1::AggregationSpec spec = SpecOf(rung().spec);
  ASSERT_EQ(outcome.report.updates_size(), kUpdates);
  for (size_t i = 0; i < kUpdates; ++i) {
    const auto& decision = outcome.report.updates(static_cast<int>(i));
    EXPECT_EQ(decision.worker(), absl::StrFormat("w%03d", i));
    EXPECT_FALSE(decision.has_staleness());
  }
  EXPECT_GT(outcome.report.total_weight(), 0);
  ASSERT_EQ(outcome.report.pre_aggregation_size(), spec.pre_aggregation_size());
}

TEST_P(LadderTest, Ties_StayWithinAndAreTheSameEveryTime) {
  TestRows rows = RandomRows(Enough(), 60, 9);
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = rows[i % 3];
  ExpectWithin(rows);
  const Outcome once = AggregateBy(rung().spec, rows);
  EXPECT_TRUE(SameBits(AggregateBy(rung().spec, rows).values, once.values));
}

TEST_P(LadderTest, NotANumber_IsBlamed) { ExpectBlamed(Limits::quiet_NaN()); }

TEST_P(LadderTest, Infinities_AreBlamed) {
  ExpectBlamed(Limits::infinity());
  ExpectBlamed(-Limits::infinity());
}

TEST_P(LadderTest, UnreadableUpdate_IsBlamed) {
  const size_t n = Enough();
  std::vector<Update> updates;
  const TestRows rows = RandomRows(n, 50, 10);
  for (size_t i = 0; i < n; ++i) {
    updates.push_back(TestUpdate(absl::StrFormat("w%03d", i), rows[i]));
  }
  updates[2].values = std::make_unique<CopyingSource>(rows[2], 33);
  std::vector<Refusal> refusals;
  const UpdateSet set =
      UpdateSet::Create(TestExpected(50), std::move(updates), &refusals);
  const Outcome outcome = AggregateBy(rung().spec, set);
  EXPECT_THAT(outcome.status, StatusIs(absl::StatusCode::kDataLoss,
                                       HasSubstr("the disk is gone")));
  EXPECT_EQ(BlamedWorker(outcome.status), "w002");
}

TEST_P(LadderTest, Subnormals_StayWithinTheUpdates) {
  TestRows rows = RandomRows(Enough(), 100, 11);
  for (auto& row : rows) {
    for (float& x : row) x *= 1e-40f;
  }
  ExpectWithin(rows);
}

TEST_P(LadderTest, LargestValues_DoNotOverflow) {
  if (rung().fixed_point) GTEST_SKIP() << "has a range";
  TestRows rows = RandomRows(Enough(), 100, 12);
  for (auto& row : rows) {
    for (float& x : row) x = x < 0 ? -Limits::max() : Limits::max();
  }
  ExpectWithin(rows);
  for (float& x : rows[0]) x = 1;
  ExpectWithin(rows);
}

TEST_P(LadderTest, SignedZeros_AreZero) {
  TestRows rows(Enough(), std::vector<float>(20, -0.0f));
  for (size_t i = 0; i < rows.size(); i += 2) rows[i].assign(20, 0.0f);
  const Outcome outcome = AggregateBy(rung().spec, rows);
  ASSERT_OK(outcome.status);
  for (float x : outcome.values) EXPECT_EQ(x, 0);
}

TEST_P(LadderTest, RefusedNeighbours_DoNotMatter) {
  const TestRows rows = RandomRows(kUpdates, 80, 13);
  std::vector<Update> updates;
  for (size_t i = 0; i < kUpdates; ++i) {
    updates.push_back(TestUpdate(absl::StrFormat("w%03d", i), rows[i]));
  }
  updates.push_back(TestUpdate("wrong shape", std::vector<float>(79)));
  updates.push_back(TestUpdate("wrong version", rows[0]));
  updates.back().base_version -= 1;
  std::vector<Refusal> refusals;
  const UpdateSet set =
      UpdateSet::Create(TestExpected(80), std::move(updates), &refusals);
  EXPECT_EQ(refusals.size(), 2);
  const Outcome outcome = AggregateBy(rung().spec, set);
  ASSERT_OK(outcome.status);
  EXPECT_TRUE(SameBits(outcome.values, AggregateBy(rung().spec, rows).values));
}

// An update with a discount of 1/2 counts as the update of half its length.
TEST_P(LadderTest, Discount_IsAShorterUpdate) {
  const size_t elements = 200;
  const TestRows rows = RandomRows(kUpdates, elements, 14);
  TestRows halved = rows;
  std::vector<Update> updates;
  for (size_t i = 0; i < kUpdates; ++i) {
    updates.push_back(TestUpdate(absl::StrFormat("w%03d", i), rows[i]));
    if (i % 4 != 1) continue;
    updates.back().discount = 0.5;
    updates.back().base_version -= 3;
    for (float& x : halved[i]) x *= 0.5f;
  }
  UpdateSet::Expected expected = TestExpected(elements);
  expected.max_staleness = 3;
  std::vector<Refusal> refusals;
  const UpdateSet set =
      UpdateSet::Create(expected, std::move(updates), &refusals);
  const Outcome outcome = AggregateBy(rung().spec, set);
  ASSERT_OK(outcome.status);
  // Coefficients are rounded to 29 bits, integers to 2^-26.
  EXPECT_LE(Distance(outcome.values, AggregateBy(rung().spec, halved).values),
            1e-6 * std::sqrt(elements));
  if (rung().fixed_point) return;
  EXPECT_EQ(outcome.report.updates(1).staleness(), 3);
  EXPECT_EQ(outcome.report.updates(1).discount(), 0.5);
  EXPECT_EQ(outcome.report.updates(0).staleness(), 0);
}

// Honest updates are the same direction with noise; each lies about `radius`
// from it.
TEST_P(LadderTest, Attackers_DoNotMoveRobustRulesAndDoMoveTheMean) {
  const size_t elements = 200;
  TestRows honest = RandomRows(kUpdates - kAttackers, elements, 15);
  for (auto& row : honest) {
    for (float& x : row) x = 1 + 0.1f * x;
  }
  const double radius = 0.1 * std::sqrt(elements);
  const std::vector<float> mean = MeanOf(honest);
  const MemorySource previous(mean);
  for (AttackKind kind : AllAttacks()) {
    SCOPED_TRACE(AttackName(kind));
    TestRows rows = Attack(kind, honest, kAttackers, 16);
    if (rung().fixed_point) {
      for (auto& row : rows) {
        for (float& x : row) x = std::clamp(x, -15.0f, 15.0f);
      }
    }
    rows.insert(rows.end(), honest.begin(), honest.end());
    const Outcome outcome = AggregateBy(
        rung().spec, rows, {.previous = rung().keeps ? &previous : nullptr});
    ASSERT_OK(outcome.status);
    const double moved = Distance(outcome.values, mean);
    if (rung().robust) {
      // One honest update is a radius away; half as much again for luck.
      EXPECT_LE(moved, 1.5 * radius);
    } else if (kind == AttackKind::kScaling && !rung().shortens) {
      EXPECT_GE(moved, 10 * radius);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Rules, LadderTest, ::testing::ValuesIn(Rungs()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace koinon::aggregation
