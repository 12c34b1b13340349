#include "aggregation/geometry/points.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "aggregation/geometry/testing_points.h"

namespace koinon::aggregation {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

// A few roundings of numbers below 100.
constexpr double kRounding = 1e-12;

const Coordinates& Rows() {
  static const auto* const rows =
      new Coordinates{{1, 2}, {4, -3}, {-2, 0.5}, {1, 7}};
  return *rows;
}

TEST(PointsTest, Updates_AreTheirOwnPoints) {
  const Points points = PointsAt(Rows(), {5, 6, 7, 8});
  EXPECT_EQ(points.size(), 4);
  EXPECT_EQ(points.updates(), 4);
  EXPECT_TRUE(points.AreUpdates());
  EXPECT_THAT(points.Mixing(), IsEmpty());
  EXPECT_THAT(points.Coefficients(2), ElementsAre(Pair(2, 1)));
  EXPECT_THAT(points.weights(), ElementsAre(5, 6, 7, 8));
  ExpectDistancesOf(points, Rows(), kRounding);
}

TEST(PointsTest, Discounts_AreFactors) {
  const Points points(GramOf(Rows()), std::vector<double>{1, 2, 3, 4},
                      std::vector<double>{1, 0.5, 1, 0.25});
  EXPECT_FALSE(points.AreUpdates());
  EXPECT_THAT(points.weights(), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(Locate(points, Rows())[1], ElementsAre(2, -1.5));
  ExpectDistancesOf(points, Locate(points, Rows()), kRounding);
}

TEST(PointsTest, Steps_Compose) {
  Points points = PointsAt(Rows(), {1, 2, 3, 4});
  points.Scale({0.5, 1, 0, 1});
  ExpectDistancesOf(points, Locate(points, Rows()), kRounding);
  points.Mix({{{0, 0.5}, {1, 0.5}}, {{2, 1}}, {{1, 0.25}, {3, 0.25}}},
             {3, 3, 6});
  ExpectDistancesOf(points, Locate(points, Rows()), kRounding);
  points.Keep({0, 2});
  EXPECT_THAT(points.weights(), ElementsAre(3, 6));
  EXPECT_EQ(points.updates(), 4);
  const Coordinates places = Locate(points, Rows());
  // (0.5 {1, 2} + {4, -3}) / 2 and ({4, -3} + {1, 7}) / 4
  EXPECT_THAT(places, ElementsAre(ElementsAre(2.25, -1), ElementsAre(1.25, 1)));
  ExpectDistancesOf(points, places, kRounding);
  EXPECT_THAT(points.Mixing(), ElementsAre(ElementsAre(0.25, 0.5, 0, 0),
                                           ElementsAre(0, 0.25, 0, 0.25)));
  EXPECT_THAT(points.OverUpdates({2, 4}), ElementsAre(0.5, 2, 0, 1));
}

TEST(PointsTest, EqualMixtures_HaveNoDistance) {
  Points points = PointsAt(Rows());
  const Points::Terms third = {{0, 1.0 / 3}, {1, 1.0 / 3}, {3, 1.0 / 3}};
  points.Mix({third, {{2, 1}}, third}, {1, 1, 1});
  EXPECT_EQ(points.SquaredDistance(0, 2), 0);
  EXPECT_GT(points.SquaredDistance(0, 1), 0);
}

TEST(PointsTest, ScaledToNothing_IsTheOrigin) {
  Points points = PointsAt(Rows());
  points.Scale({0, 1, 0, 1});
  EXPECT_EQ(points.SquaredNorm(0), 0);
  EXPECT_EQ(points.SquaredDistance(0, 2), 0);
  EXPECT_THAT(points.Coefficients(0), IsEmpty());
}

TEST(PointsTest, PreviousAggregate_StaysWhereItIs) {
  Points points = PointsAt(Rows(), {}, std::vector<double>{3, 3});
  points.Scale({0.5, 0.5, 0.5, 0.5});
  points.Keep({1});
  // |{2, -1.5} - {3, 3}|^2
  EXPECT_NEAR(points.gram().SquaredDistance(0, points.gram().previous()), 21.25,
              kRounding);
}

TEST(PointsTest, WithoutDistances_StepsStillCompose) {
  Points points({1, 2, 3, 4}, {1, 1, 0.5, 1});
  EXPECT_FALSE(points.has_distances());
  points.Mix({{{0, 0.5}, {2, 0.5}}, {{1, 1}}}, {4, 2});
  EXPECT_THAT(points.Mixing(), ElementsAre(ElementsAre(0.5, 0, 0.25, 0),
                                           ElementsAre(0, 1, 0, 0)));
}

}  // namespace
}  // namespace koinon::aggregation
