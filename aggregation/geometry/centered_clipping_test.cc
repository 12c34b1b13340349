#include "aggregation/geometry/centered_clipping.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "aggregation/geometry/testing_points.h"

namespace koinon::aggregation {
namespace {

using ::testing::DoubleNear;
using ::testing::Each;
using ::testing::ElementsAre;

TEST(CenteredClippingTest, NoPrevious_StartsAtTheOrigin) {
  const Centre centre = CenteredClipping(PointsAt({{3, 4}, {0, 1}}), 2, 1);
  EXPECT_THAT(centre.factors, ElementsAre(DoubleNear(0.4, 1e-12), 1));
  EXPECT_THAT(centre.coefficients, ElementsAre(DoubleNear(0.2, 1e-12), 0.5));
  EXPECT_EQ(centre.previous, 0);
  EXPECT_EQ(centre.iterations, 1);
  // To {0.6, 1.3}.
  EXPECT_THAT(centre.distances[1], DoubleNear(0.670820393, 1e-8));
}

TEST(CenteredClippingTest, Previous_GivesWayByTheMeanFactor) {
  const Centre centre =
      CenteredClipping(PointsAt({{10}, {2}}, {}, std::vector<double>{4}), 3, 1);
  // 4 + (6 * 1/2 - 2) / 2
  EXPECT_THAT(centre.factors, ElementsAre(0.5, 1));
  EXPECT_THAT(centre.coefficients, ElementsAre(0.25, 0.5));
  EXPECT_EQ(centre.previous, 0.25);
}

TEST(CenteredClippingTest, NothingToClip_IsTheMeanAndForgetsThePrevious) {
  const Centre centre = CenteredClipping(
      PointsAt({{1}, {2}, {6}}, {}, std::vector<double>{3}), 100, 1);
  EXPECT_THAT(centre.coefficients, Each(DoubleNear(1.0 / 3, 1e-12)));
  EXPECT_EQ(centre.previous, 0);
}

TEST(CenteredClippingTest, PointAtThePrevious_HasFactorOne) {
  const Centre centre = CenteredClipping(
      PointsAt({{3, 3}, {3, 3}}, {}, std::vector<double>{3, 3}), 1e-9, 5);
  EXPECT_THAT(centre.factors, Each(1));
}

TEST(CenteredClippingTest, Iterations_StartWhereTheLastOneEnded) {
  const Coordinates rows = {{10}, {10}};
  const Centre centre = CenteredClipping(PointsAt(rows), 3, 3);
  EXPECT_NEAR(Combine(centre.coefficients, rows)[0], 9, 1e-12);
  EXPECT_NEAR(centre.distances[0], 1, 1e-9);
}

}  // namespace
}  // namespace koinon::aggregation
