#include "kernels/dropout_mask.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <vector>

namespace koinon::kernels {
namespace {

std::vector<uint8_t> Draw(uint64_t seed, double rate, size_t first, size_t n) {
  std::vector<uint8_t> keep(n);
  DrawDropoutMask(seed, rate, first, absl::MakeSpan(keep));
  return keep;
}

TEST(DrawDropoutMask, Kept_AreAboutOneMinusRate) {
  constexpr size_t kCount = 100'000;
  for (double rate : {0.1, 0.5, 0.9}) {
    const std::vector<uint8_t> keep = Draw(7, rate, 0, kCount);
    const double kept = std::accumulate(keep.begin(), keep.end(), 0.0) / kCount;
    // Five standard deviations of a binomial: one false alarm in a million
    // seeds, and the seed is fixed.
    EXPECT_NEAR(kept, 1 - rate, 5 * std::sqrt(rate * (1 - rate) / kCount));
  }
}

TEST(DrawDropoutMask, RateZero_KeepsAll) {
  EXPECT_EQ(Draw(7, 0, 0, 100), std::vector<uint8_t>(100, 1));
}

TEST(DrawDropoutMask, Parts_AreThoseOfTheWhole) {
  const std::vector<uint8_t> whole = Draw(7, 0.5, 0, 100);
  EXPECT_EQ(Draw(7, 0.5, 40, 60),
            std::vector<uint8_t>(whole.begin() + 40, whole.end()));
}

TEST(DropoutSeed, OtherLayerOrStep_GivesAnotherMask) {
  const auto mask = [](uint64_t step, size_t layer) {
    return Draw(DropoutSeed(step, layer), 0.5, 0, 100);
  };
  EXPECT_EQ(mask(1, 1), mask(1, 1));
  EXPECT_NE(mask(1, 1), mask(1, 2));
  EXPECT_NE(mask(1, 1), mask(2, 1));
}

}  // namespace
}  // namespace koinon::kernels
