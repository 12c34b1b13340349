#include "aggregation/geometry/krum.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "aggregation/geometry/testing_points.h"

namespace koinon::aggregation {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

TEST(KrumScoresTest, Points_SumTheirNearest) {
  const Points points = PointsAt({{0}, {1}, {3}, {10}});
  EXPECT_THAT(KrumScores(points, 1), ElementsAre(1, 1, 4, 49));
  EXPECT_THAT(KrumScores(points, 2), ElementsAre(10, 5, 13, 130));
  EXPECT_THAT(KrumScores(points, 9), ElementsAre(110, 86, 62, 230));
  EXPECT_THAT(KrumScores(points, 0), Each(0));
  EXPECT_THAT(KrumScores(PointsAt({{7}}), 1), ElementsAre(0));
}

TEST(KrumScoresTest, DistanceThatIsNoNumber_IsInfinite) {
  Gram gram = GramOf({{0}, {1}, {3}});
  for (size_t j = 0; j < gram.points(); ++j) {
    gram.products[2 * gram.points() + j] = std::nan("");
    gram.products[j * gram.points() + 2] = std::nan("");
  }
  const std::vector<double> ones(3, 1);
  const std::vector<double> scores = KrumScores(Points(gram, ones, ones), 2);
  for (double score : scores) EXPECT_FALSE(std::isnan(score));
}

TEST(LowestScoresTest, EqualScores_GoToTheLowerIndex) {
  EXPECT_THAT(LowestScores({3, 1, 2, 1, 1}, 2), ElementsAre(1, 3));
  EXPECT_THAT(LowestScores({3, 1, 2, 1, 1}, 4), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(LowestScores({5, 5}, 1), ElementsAre(0));
  EXPECT_THAT(LowestScores({5, 5}, 0), IsEmpty());
}

TEST(LowestScoresTest, NotANumber_NeverWins) {
  const double nan = std::nan("");
  EXPECT_THAT(LowestScores({nan, kInfinity, 7, nan}, 1), ElementsAre(2));
  EXPECT_THAT(LowestScores({nan, kInfinity, 7, nan}, 2), ElementsAre(1, 2));
  EXPECT_THAT(LowestScores({nan, nan}, 1), ElementsAre(0));
}

// n = 7, f = 1, neighbours 4, 3, 2, 1, 1, by hand. Two ties: of 2 and 4 at
// first, of 0 and 8 in the fourth choice.
TEST(RecursiveKrumTest, Winners_AreTakenOut) {
  const Points points = PointsAt({{0}, {1}, {2}, {4}, {8}, {16}, {100}});
  EXPECT_THAT(RecursiveKrum(points, 1, 1), ElementsAre(2));
  EXPECT_THAT(RecursiveKrum(points, 1, 2), ElementsAre(2, 3));
  EXPECT_THAT(RecursiveKrum(points, 1, 3), ElementsAre(1, 2, 3));
  EXPECT_THAT(RecursiveKrum(points, 1, 4), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(RecursiveKrum(points, 1, 5), ElementsAre(0, 1, 2, 3, 4));
  EXPECT_THAT(RecursiveKrum(points, 1, 7), ElementsAre(0, 1, 2, 3, 4, 5, 6));
}

TEST(RecursiveKrumTest, EqualPoints_GoInOrder) {
  EXPECT_THAT(RecursiveKrum(PointsAt(Coordinates(5, {3})), 0, 3),
              ElementsAre(0, 1, 2));
}

}  // namespace
}  // namespace koinon::aggregation
