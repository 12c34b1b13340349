#include "aggregation/core/fixed_point.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

#include "base/random.h"
#include "base/status_matchers.h"

namespace koinon::aggregation {
namespace {

using ::testing::HasSubstr;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

FixedPoint DefaultFormat() { return *FixedPoint::Of({}); }

v1::AggregationSpec::FedAvg SpecOf(double range, double total_weight) {
  v1::AggregationSpec::FedAvg spec;
  spec.mutable_fixed_point()->set_range(range);
  spec.mutable_fixed_point()->set_total_weight(total_weight);
  return spec;
}

// The definition, computed with 64 bits of mantissa: enough for the product, as
// a weight has 29 bits and a value 24.
int64_t Truth(const FixedPoint& format, double weight, float value) {
  const long double exact = std::scalbn(
      static_cast<long double>(weight) * static_cast<long double>(value),
      format.bits);
  return static_cast<int64_t>(std::nearbyint(exact));
}

struct Updates {
  std::vector<std::vector<float>> rows;
  std::vector<double> weights;
};

// Values over the whole range, some tiny, some at the bounds, zeros of both
// signs and subnormals among them; weights within the total.
Updates RandomUpdates(const FixedPoint& format, size_t n, size_t count,
                      Random* random) {
  Updates updates;
  for (size_t i = 0; i < n; ++i) {
    std::vector<float> row(count);
    for (float& x : row) {
      const double sign = random->NextBelow(2) == 0 ? -1 : 1;
      switch (random->NextBelow(6)) {
        case 0:
          x = static_cast<float>(sign * format.range);
          break;
        case 1:
          x = static_cast<float>(sign * 0);
          break;
        case 2:
          x = static_cast<float>(
              sign *
              std::ldexp(1.0, -static_cast<int>(random->NextBelow(149))));
          break;
        default:
          x = static_cast<float>(sign * random->NextDouble() * format.range);
      }
      // Rounded to a float, or a power of two, it may be beyond the range.
      if (std::abs(x) > format.range) {
        x = std::nextafter(static_cast<float>(format.range), 0.0f);
      }
    }
    updates.rows.push_back(std::move(row));
    updates.weights.push_back(FixedPointWeight(
        random->NextDouble() * format.total_weight / static_cast<double>(n)));
  }
  return updates;
}

std::vector<FixedPointTerm> TermsOf(const Updates& updates,
                                    const std::vector<size_t>& which) {
  std::vector<FixedPointTerm> terms;
  for (size_t i : which) {
    terms.push_back({updates.weights[i], updates.rows[i].data()});
  }
  return terms;
}

std::vector<size_t> AllOf(size_t n) {
  std::vector<size_t> all(n);
  std::iota(all.begin(), all.end(), size_t{0});
  return all;
}

// ---- The format ----

TEST(FixedPointTest, Of_Defaults_AreThoseOfTheProto) {
  const FixedPoint weighted = DefaultFormat();
  EXPECT_EQ(weighted.range, 16);
  EXPECT_EQ(weighted.total_weight, 0x1p32);
  EXPECT_EQ(weighted.bits, 62 - 36);
  v1::AggregationSpec::FedAvg uniform;
  uniform.set_uniform(true);
  ASSERT_OK_AND_ASSIGN(const FixedPoint counted, FixedPoint::Of(uniform));
  EXPECT_EQ(counted.total_weight, 0x1p20);
  EXPECT_EQ(counted.bits, 62 - 24);
}

TEST(FixedPointTest, Of_AnyProduct_LeavesTheMostBitsThatCannotOverflow) {
  Random random(1);
  for (int i = 0; i < 1000; ++i) {
    const double range = std::ldexp(0.5 + random.NextDouble() / 2,
                                    static_cast<int>(random.NextBelow(40)));
    const double total = std::ldexp(0.5 + random.NextDouble() / 2,
                                    static_cast<int>(random.NextBelow(20)) + 5);
    ASSERT_OK_AND_ASSIGN(const FixedPoint format,
                         FixedPoint::Of(SpecOf(range, total)));
    EXPECT_LE(std::ldexp(range * total, format.bits), 0x1p62);
    EXPECT_GT(std::ldexp(range * total, format.bits + 1), 0x1p62);
  }
  // Powers of two are where a logarithm would go wrong.
  for (int e = -50; e <= 50; ++e) {
    ASSERT_OK_AND_ASSIGN(const FixedPoint format,
                         FixedPoint::Of(SpecOf(std::ldexp(1.0, e), 0x1p52)));
    EXPECT_EQ(format.bits, 62 - e - 52);
  }
}

TEST(FixedPointTest, Of_WhatIsNoFormat_IsRefused) {
  const double not_a_number = std::numeric_limits<double>::quiet_NaN();
  const double infinite = std::numeric_limits<double>::infinity();
  for (double bad : {-1.0, not_a_number, infinite, -infinite}) {
    EXPECT_THAT(FixedPoint::Of(SpecOf(bad, 1)),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("fixed_point.range is")));
    EXPECT_THAT(FixedPoint::Of(SpecOf(1, bad)),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("fixed_point.total_weight is")));
  }
  for (const auto& [range, total] : std::vector<std::pair<double, double>>{
           {1e300, 1e300}, {1e-300, 1e-300}, {0x1p60, 0x1p65}, {0.5, 0.5}}) {
    EXPECT_THAT(
        FixedPoint::Of(SpecOf(range, total)),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("range")))
        << range << " " << total;
  }
}

TEST(FixedPointTest, Weight_ManyBits_AreRoundedToTwentyNine) {
  EXPECT_EQ(FixedPointWeight(0), 0);
  EXPECT_EQ(FixedPointWeight(1), 1);
  EXPECT_EQ(FixedPointWeight(0x1p29 - 1), 0x1p29 - 1);
  EXPECT_EQ(FixedPointWeight(0x1p53), 0x1p53);
  EXPECT_EQ(FixedPointWeight(0x1p53 - 1), 0x1p53);
  Random random(2);
  for (int i = 0; i < 1000; ++i) {
    const double weight = random.NextDouble() * 1e9;
    const double rounded = FixedPointWeight(weight);
    EXPECT_NEAR(rounded, weight, weight * 0x1p-29);
    int exponent;
    const double scaled = std::ldexp(std::frexp(rounded, &exponent), 29);
    EXPECT_EQ(scaled, std::floor(scaled));
  }
}

// ---- Sums ----

TEST(FixedPointTest, Add_EveryInstructionSet_IsTheDefinition) {
  uint64_t seed = 0;
  for (const FixedPoint& format :
       {DefaultFormat(), *FixedPoint::Of(SpecOf(1, 1e6)),
        *FixedPoint::Of(SpecOf(3e38, 0x1p-10)),
        *FixedPoint::Of(SpecOf(1e-3, 7e3))}) {
    for (size_t n : {1, 2, 7}) {
      for (size_t count : {0, 1, 15, 31, 32, 33, 2049}) {
        Random random(++seed);
        const Updates updates = RandomUpdates(format, n, count, &random);
        std::vector<int64_t> expected(count);
        for (size_t i = 0; i < n; ++i) {
          for (size_t j = 0; j < count; ++j) {
            expected[j] +=
                Truth(format, updates.weights[i], updates.rows[i][j]);
          }
        }
        for (InstructionSet set : SupportedInstructionSets()) {
          std::vector<int64_t> sums(count);
          EXPECT_FALSE(AddFixedPoint(format, TermsOf(updates, AllOf(n)),
                                     absl::MakeSpan(sums), set)
                           .has_value());
          EXPECT_EQ(sums, expected)
              << InstructionSetName(set) << " seed " << seed;
        }
      }
    }
  }
}

TEST(FixedPointTest, Add_HalfWay_GoesToTheEvenInteger) {
  const FixedPoint format = *FixedPoint::Of(SpecOf(16, 0x1p58));
  ASSERT_EQ(format.bits, 0);
  const std::vector<float> values = {0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f};
  const std::vector<int64_t> expected = {0, 2, 2, 0, -2, -2};
  for (InstructionSet set : SupportedInstructionSets()) {
    std::vector<int64_t> sums(values.size());
    ASSERT_FALSE(AddFixedPoint(format, {{1.0, values.data()}},
                               absl::MakeSpan(sums), set));
    EXPECT_EQ(sums, expected) << InstructionSetName(set);
    // The same beside a multiple of 2^32, which two halves make up.
    sums.assign(values.size(), 0);
    ASSERT_FALSE(AddFixedPoint(format, {{0x1p33, values.data()}},
                               absl::MakeSpan(sums), set));
    for (size_t j = 0; j < values.size(); ++j) {
      EXPECT_EQ(sums[j], static_cast<int64_t>(values[j] * 0x1p33));
    }
  }
}

TEST(FixedPointTest, Add_AnyOrderSplitAndTree_GivesTheSameSums) {
  const FixedPoint format = DefaultFormat();
  constexpr size_t kUpdates = 23, kCount = 301;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Random random(seed);
    const Updates updates = RandomUpdates(format, kUpdates, kCount, &random);
    std::vector<int64_t> expected(kCount);
    ASSERT_FALSE(AddFixedPoint(format, TermsOf(updates, AllOf(kUpdates)),
                               absl::MakeSpan(expected),
                               InstructionSet::kPortable));
    std::vector<size_t> order = AllOf(kUpdates);
    random.Shuffle(&order);
    // Leaves of random sizes, each on any instruction set, then a random tree.
    std::vector<std::vector<int64_t>> parts;
    for (size_t begin = 0; begin < kUpdates;) {
      const size_t end = std::min(kUpdates, begin + 1 + random.NextBelow(6));
      const auto sets = SupportedInstructionSets();
      std::vector<int64_t> sums(kCount);
      ASSERT_FALSE(AddFixedPoint(
          format,
          TermsOf(updates, {order.begin() + begin, order.begin() + end}),
          absl::MakeSpan(sums), sets[random.NextBelow(sets.size())]));
      parts.push_back(std::move(sums));
      begin = end;
    }
    while (parts.size() > 1) {
      random.Shuffle(&parts);
      for (size_t j = 0; j < kCount; ++j) {
        parts[parts.size() - 2][j] += parts.back()[j];
      }
      parts.pop_back();
    }
    EXPECT_EQ(parts[0], expected) << "seed " << seed;
  }
}

TEST(FixedPointTest, Add_FullRangeAndFullWeight_DoesNotOverflow) {
  for (const FixedPoint& format :
       {DefaultFormat(), *FixedPoint::Of(SpecOf(2e37, 1)),
        *FixedPoint::Of(SpecOf(0.7, 1e9))}) {
    // As many terms as make up the whole total weight.
    constexpr size_t kTerms = 64;
    const double weight = FixedPointWeight(format.total_weight / kTerms);
    const float most = std::nextafter(static_cast<float>(format.range), 0.0f);
    const std::vector<float> values = {most, -most};
    const std::vector<FixedPointTerm> terms(kTerms, {weight, values.data()});
    for (InstructionSet set : SupportedInstructionSets()) {
      std::vector<int64_t> sums(2);
      ASSERT_FALSE(AddFixedPoint(format, terms, absl::MakeSpan(sums), set));
      EXPECT_GT(sums[0], int64_t{1} << 60);
      EXPECT_EQ(sums[1], -sums[0]);
      std::vector<float> mean(2);
      FixedPointMean(format, weight * kTerms, sums, absl::MakeSpan(mean));
      EXPECT_FLOAT_EQ(mean[0], most);
      EXPECT_FLOAT_EQ(mean[1], -most);
    }
  }
}

TEST(FixedPointTest, Add_ValueBeyondTheRange_IsNamed) {
  const FixedPoint format = DefaultFormat();
  constexpr size_t kCount = 5000;
  const float above = std::nextafter(16.0f, 17.0f);
  for (float bad : {above, -above, kInf, -kInf, kNan, -kNan, 3e38f}) {
    for (size_t at : {0, 31, 32, 4990, 4999}) {
      std::vector<float> good(kCount, 16.0f), poisoned(kCount, -16.0f);
      poisoned[at] = bad;
      poisoned.back() = kNan;
      for (InstructionSet set : SupportedInstructionSets()) {
        std::vector<int64_t> sums(kCount);
        const auto outlier =
            AddFixedPoint(format, {{1, good.data()}, {1, poisoned.data()}},
                          absl::MakeSpan(sums), set);
        ASSERT_TRUE(outlier.has_value()) << bad << " at " << at;
        EXPECT_EQ(outlier->term, 1u);
        EXPECT_EQ(outlier->element, at);
        EXPECT_EQ(std::memcmp(&outlier->value, &poisoned[at], 4), 0);
      }
    }
  }
}

TEST(FixedPointTest, Add_RangeThatIsNoFloat_KeepsToIt) {
  const FixedPoint format = *FixedPoint::Of(SpecOf(0.1, 100));
  const float above = 0.1f;  // a little more than a tenth
  ASSERT_GT(static_cast<double>(above), 0.1);
  const float below = std::nextafter(above, 0.0f);
  std::vector<int64_t> sums(1);
  for (InstructionSet set : SupportedInstructionSets()) {
    EXPECT_FALSE(
        AddFixedPoint(format, {{1, &below}}, absl::MakeSpan(sums), set));
    EXPECT_TRUE(
        AddFixedPoint(format, {{1, &above}}, absl::MakeSpan(sums), set));
  }
}

TEST(FixedPointTest, Mean_OfOneUpdate_IsWithinTheResolution) {
  Random random(5);
  for (const FixedPoint& format :
       {DefaultFormat(), *FixedPoint::Of(SpecOf(1, 1e6))}) {
    const Updates updates = RandomUpdates(format, 1, 1000, &random);
    std::vector<int64_t> sums(1000);
    ASSERT_FALSE(AddFixedPoint(format, TermsOf(updates, {0}),
                               absl::MakeSpan(sums),
                               SupportedInstructionSets().front()));
    std::vector<float> mean(1000);
    FixedPointMean(format, updates.weights[0], sums, absl::MakeSpan(mean));
    // Half a step of the sum, then roundings of double and fp32.
    const double step = std::ldexp(0.5, -format.bits) / updates.weights[0];
    for (size_t j = 0; j < 1000; ++j) {
      const float x = updates.rows[0][j];
      EXPECT_NEAR(mean[j], x, step + std::abs(x) * 0x1p-23);
    }
  }
}

TEST(FixedPointTest, Errors_SayWhatToRaise) {
  EXPECT_THAT(OutlierError(DefaultFormat(), "fc1.weight[3]", 17),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("fc1.weight[3] is 17, expected at most 16 in "
                                 "magnitude (aggregation.fedavg.fixed_point"
                                 ".range)")));
  EXPECT_THAT(TotalWeightError(DefaultFormat(), 0x1p33),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("8589934592, expected at most 4294967296 "
                                 "(aggregation.fedavg.fixed_point"
                                 ".total_weight)")));
}

}  // namespace
}  // namespace koinon::aggregation
