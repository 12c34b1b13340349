#include "base/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <vector>

#include "absl/strings/str_cat.h"

// The seeds are fixed, so that a test passes always or never. The tolerances
// are those that a fresh seed would fail once in 15,000 times (4 standard
// deviations) unless another rate is given.

namespace koinon {
namespace {

constexpr int kDraws = 100'000;

struct Moments {
  double mean = 0;
  double variance = 0;
};

template <typename Draw>
Moments MomentsOf(Draw draw) {
  std::vector<double> values(kDraws);
  Moments moments;
  for (double& value : values) moments.mean += value = draw();
  moments.mean /= kDraws;
  for (const double value : values) {
    moments.variance += (value - moments.mean) * (value - moments.mean);
  }
  moments.variance /= kDraws;
  return moments;
}

TEST(RandomTest, NextUint64_KnownSeeds_KnownNumbers) {
  // From the authors' C programs for xoshiro256** and SplitMix64.
  Random zero(0);
  EXPECT_EQ(zero.NextUint64(), 0x99ec5f36cb75f2b4u);
  EXPECT_EQ(zero.NextUint64(), 0xbf6e1f784956452au);
  EXPECT_EQ(zero.NextUint64(), 0x1a5f849d4933e6e0u);
  EXPECT_EQ(zero.NextUint64(), 0x6aa594f1262d2d2cu);
  Random other(42);
  EXPECT_EQ(other.NextUint64(), 0x15780b2e0c2ec716u);
}

TEST(RandomTest, NextBelow_SmallBound_IsUniform) {
  Random random(1);
  std::vector<int> counts(10);
  for (int i = 0; i < kDraws; ++i) ++counts[random.NextBelow(10)];
  double chi_square = 0;
  for (const int count : counts) {
    chi_square += std::pow(count - kDraws / 10.0, 2) / (kDraws / 10.0);
  }
  // 9 degrees of freedom: a fresh seed fails once in 1,000 times.
  EXPECT_LT(chi_square, 27.88);
}

TEST(RandomTest, NextBelow_HugeBound_StaysBelow) {
  Random random(2);
  constexpr uint64_t kBound = (uint64_t{1} << 63) + 1;
  bool upper_half = false;
  for (int i = 0; i < 1000; ++i) {
    const uint64_t value = random.NextBelow(kBound);
    ASSERT_LT(value, kBound);
    upper_half = upper_half || value > kBound / 2;
  }
  EXPECT_TRUE(upper_half);
  EXPECT_EQ(random.NextBelow(1), 0u);
}

TEST(RandomTest, NextDouble_ManyDraws_UniformMoments) {
  Random random(3);
  const Moments moments = MomentsOf([&] {
    const double value = random.NextDouble();
    EXPECT_GE(value, 0);
    EXPECT_LT(value, 1);
    return value;
  });
  EXPECT_NEAR(moments.mean, 0.5, 4 * std::sqrt(1.0 / 12 / kDraws));
  // The variance of (x - 1/2)^2 is 1/180.
  EXPECT_NEAR(moments.variance, 1.0 / 12, 4 * std::sqrt(1.0 / 180 / kDraws));
}

TEST(RandomTest, NextNormal_ManyDraws_StandardMoments) {
  Random random(4);
  const Moments moments = MomentsOf([&] { return random.NextNormal(); });
  EXPECT_NEAR(moments.mean, 0, 4 * std::sqrt(1.0 / kDraws));
  EXPECT_NEAR(moments.variance, 1, 4 * std::sqrt(2.0 / kDraws));
}

TEST(RandomTest, NextGamma_SeveralShapes_MeanAndVarianceAreTheShape) {
  for (const double shape : {0.1, 0.5, 1.0, 3.0, 50.0}) {
    Random random(5);
    const Moments moments = MomentsOf([&] { return random.NextGamma(shape); });
    EXPECT_NEAR(moments.mean, shape, 4 * std::sqrt(shape / kDraws)) << shape;
    // The fourth central moment of Gamma(k, 1) is 3k^2 + 6k.
    EXPECT_NEAR(moments.variance, shape,
                4 * std::sqrt((2 * shape * shape + 6 * shape) / kDraws))
        << shape;
  }
}

TEST(RandomTest, NextDirichlet_SeveralAlphas_IsADistribution) {
  Random random(6);
  // With the smallest every gamma variable alone would be zero in a double.
  for (const double alpha : {1e-6, 0.01, 0.5, 1.0, 100.0}) {
    const std::vector<double> shares = random.NextDirichlet(alpha, 10);
    ASSERT_EQ(shares.size(), 10u);
    for (const double share : shares) {
      EXPECT_GE(share, 0);
      EXPECT_LE(share, 1);
    }
    // Ten roundings of relative size 2^-53.
    EXPECT_NEAR(std::accumulate(shares.begin(), shares.end(), 0.0), 1, 2e-15);
  }
}

TEST(RandomTest, NextDirichlet_SmallAlpha_IsMoreUneven) {
  Random random(7);
  double largest_small = 0;
  double largest_great = 0;
  for (int i = 0; i < 100; ++i) {
    const auto small = random.NextDirichlet(0.05, 10);
    const auto great = random.NextDirichlet(100, 10);
    largest_small += *std::max_element(small.begin(), small.end());
    largest_great += *std::max_element(great.begin(), great.end());
  }
  // The means are about 0.8 and 0.12; no seed comes near to the bounds.
  EXPECT_GT(largest_small / 100, 0.5);
  EXPECT_LT(largest_great / 100, 0.2);
}

TEST(RandomTest, Shuffle_ManyTimes_EachItemComesFirstEquallyOften) {
  Random random(8);
  std::vector<int> first(4);
  for (int i = 0; i < 10'000; ++i) {
    std::vector<int> items = {0, 1, 2, 3};
    random.Shuffle(&items);
    ++first[items[0]];
    std::sort(items.begin(), items.end());
    ASSERT_EQ(items, (std::vector<int>{0, 1, 2, 3}));
  }
  for (const int count : first) {
    EXPECT_NEAR(count, 2500, 4 * std::sqrt(10'000 * 0.25 * 0.75));
  }
}

TEST(DeriveSeedTest, Label_KnownValue_NeverChanges) {
  // Cohorts and partitions of recorded runs depend on it: the first 8 bytes of
  // SHA-256(le64(7) + label).
  EXPECT_EQ(DeriveSeed(7, "cohort/round-3"), 0x0fdada96d3224a87u);
  EXPECT_EQ(RandomAt(7, 3), 0x9c40e65de756febcu);
}

TEST(DeriveSeedTest, OtherParentLabelOrIndex_OtherSeed) {
  std::set<uint64_t> seeds;
  for (uint64_t parent = 0; parent < 10; ++parent) {
    seeds.insert(parent);
    for (uint64_t i = 0; i < 10; ++i) {
      seeds.insert(DeriveSeed(parent, i));
      seeds.insert(DeriveSeed(parent, absl::StrCat("label-", i)));
    }
  }
  EXPECT_EQ(seeds.size(), 10u + 100u + 100u);
}

TEST(RandomAtTest, NeighbouringSeeds_AreNotShiftedCopies) {
  std::set<uint64_t> values;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    for (uint64_t i = 0; i < 100; ++i) values.insert(RandomAt(seed, i));
  }
  EXPECT_EQ(values.size(), 10'000u);
}

TEST(RandomAtTest, UniformAndNormal_ManyPositions_StandardMoments) {
  uint64_t i = 0;
  const Moments uniform = MomentsOf([&] { return UniformAt(9, i++); });
  EXPECT_NEAR(uniform.mean, 0.5, 4 * std::sqrt(1.0 / 12 / kDraws));
  i = 0;
  const Moments normal = MomentsOf([&] { return NormalAt(9, i++); });
  EXPECT_NEAR(normal.mean, 0, 4 * std::sqrt(1.0 / kDraws));
  EXPECT_NEAR(normal.variance, 1, 4 * std::sqrt(2.0 / kDraws));
}

TEST(RandomAtTest, NeighbouringPositions_AreUncorrelated) {
  double sum = 0;
  for (uint64_t i = 0; i < kDraws; ++i)
    sum += NormalAt(10, i) * NormalAt(10, i + 1);
  EXPECT_NEAR(sum / kDraws, 0, 4 * std::sqrt(1.0 / kDraws));
}

}  // namespace
}  // namespace koinon
