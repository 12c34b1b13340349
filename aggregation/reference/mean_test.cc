#include "aggregation/reference/mean.h"

#include <gtest/gtest.h>

#include <vector>

namespace koinon::aggregation {
namespace {

TEST(MeanReferenceTest, TwoRows_AreWeighted) {
  const std::vector<float> a = {1, -4}, b = {5, 4};
  const ReferenceMean reference = MeanReference({a, b}, {3, 1});
  EXPECT_EQ(reference.mean, (std::vector<double>{2, -2}));
  EXPECT_EQ(reference.magnitude, (std::vector<double>{2, 4}));
}

TEST(MeanReferenceTest, HugeWeights_DoNotOverflow) {
  const std::vector<float> a = {1}, b = {2};
  EXPECT_EQ(MeanReference({a, b}, {1e308, 1e308}).mean[0], 1.5);
}

TEST(MeanToleranceTest, CancellingTerms_AreAllowedTheirMagnitude) {
  const std::vector<float> a = {1e6f}, b = {-1e6f};
  const ReferenceMean reference = MeanReference({a, b}, {1, 1});
  EXPECT_EQ(reference.mean[0], 0);
  EXPECT_GT(MeanTolerance(reference, 0), 1e6 * 0x1p-28);
  EXPECT_LT(MeanTolerance(reference, 0), 1e6 * 0x1p-26);
}

}  // namespace
}  // namespace koinon::aggregation
