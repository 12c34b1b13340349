#include "aggregation/geometry/geometric_median.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "absl/strings/str_format.h"
#include "aggregation/geometry/testing_points.h"
#include "aggregation/reference/vector_rules.h"
#include "base/random.h"

namespace koinon::aggregation {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

std::vector<double> Ones(const Coordinates& rows) {
  return std::vector<double>(rows.size(), 1);
}

// Where the median is, and that its distances are those to it.
std::vector<double> MedianOf(const Coordinates& rows,
                             const std::vector<double>& weights,
                             const GeometricMedianOptions& options = {}) {
  const Centre centre = GeometricMedian(PointsAt(rows), weights, options);
  EXPECT_TRUE(centre.converged);
  const std::vector<double> place = Combine(centre.coefficients, rows);
  for (size_t i = 0; i < rows.size(); ++i) {
    // Distances are differences of squares: half of double's digits.
    EXPECT_NEAR(centre.distances[i], ReferenceDistance(rows[i], place), 1e-6);
  }
  return place;
}

TEST(GeometricMedianTest, OnePoint_IsIt) {
  EXPECT_THAT(MedianOf({{3, 4}}, {7}), ElementsAre(3, 4));
}

TEST(GeometricMedianTest, TwoEqualWeights_AreTheMean) {
  EXPECT_THAT(MedianOf({{0, 0}, {4, 2}}, {3, 3}), ElementsAre(2, 1));
}

TEST(GeometricMedianTest, TwoUnequalWeights_AreTheHeavier) {
  EXPECT_THAT(MedianOf({{0, 0}, {4, 2}}, {3, 4}), ElementsAre(4, 2));
}

TEST(GeometricMedianTest, EqualPoints_AreThePoint) {
  const Centre centre =
      GeometricMedian(PointsAt(Coordinates(3, {1, 2})), {1, 1, 2});
  EXPECT_THAT(centre.coefficients, ElementsAre(0.25, 0.25, 0.5));
  EXPECT_EQ(centre.iterations, 0);
}

TEST(GeometricMedianTest, OddNumberOnALine_IsTheMiddleExactly) {
  const Coordinates rows = {{-5}, {0}, {1}, {2}, {1000}};
  const Centre centre = GeometricMedian(PointsAt(rows), Ones(rows));
  EXPECT_THAT(centre.coefficients, ElementsAre(0, 0, 1, 0, 0));
  EXPECT_TRUE(centre.converged);
  EXPECT_LT(centre.iterations, 50);
}

TEST(GeometricMedianTest, EvenNumberOnALine_IsBetweenTheMiddles) {
  const double place = MedianOf({{-5}, {0}, {1}, {1000}}, {1, 1, 1, 1})[0];
  EXPECT_GE(place, 0);
  EXPECT_LE(place, 1);
}

// The Fermat point of a triangle: its centre if it is regular, the corner with
// an angle of more than 120 degrees if there is one.
TEST(GeometricMedianTest, Triangles_HaveTheirFermatPoint) {
  const std::vector<double> centre = MedianOf(
      {{1, 0}, {-0.5, std::sqrt(0.75)}, {-0.5, -std::sqrt(0.75)}}, {1, 1, 1});
  EXPECT_NEAR(centre[0], 0, 1e-9);
  EXPECT_NEAR(centre[1], 0, 1e-9);
  EXPECT_THAT(MedianOf({{0, 0}, {10, 1}, {-10, 1}}, {1, 1, 1}),
              ElementsAre(0, 0));
  // Isosceles, right angle at the origin: on the axis, where both legs are seen
  // under 120 degrees: ((3 - sqrt(3)) / 6, same).
  const std::vector<double> right =
      MedianOf({{0, 0}, {1, 0}, {0, 1}}, {1, 1, 1});
  EXPECT_NEAR(right[0], (3 - std::sqrt(3)) / 6, 1e-9);
  EXPECT_NEAR(right[1], (3 - std::sqrt(3)) / 6, 1e-9);
}

// The weighted mean is the first point, which is not the median: plain
// Weiszfeld divides by zero there.
TEST(GeometricMedianTest, StartOnAPoint_LeavesIt) {
  const Coordinates rows = {{0, 0}, {3, 0}, {-1, 1}, {-1, -1}, {-1, 0}};
  const std::vector<double> place = MedianOf(rows, Ones(rows));
  const std::vector<double> reference =
      WeiszfeldReference({{1e-3, 0}, {3, 0}, {-1, 1}, {-1, -1}, {-1, 0}},
                         Ones(rows), 1e-15, 2000, false);
  EXPECT_LT(SumOfDistancesReference(rows, Ones(rows), place),
            SumOfDistancesReference(rows, Ones(rows), {0, 0}) - 0.01);
  EXPECT_NEAR(place[0], reference[0], 2e-3);
  EXPECT_NEAR(place[1], 0, 1e-9);
}

TEST(GeometricMedianTest, AlmostHalfFarAway_StaysNear) {
  // As far as that the squares of the distances are 1e60.
  for (double far : {1e3, 1e9, 1e30}) {
    SCOPED_TRACE(absl::StrFormat("%g", far));
    Coordinates rows = {{0, 0}, {1, 0}, {0, 1}, {1, 1}, {0.5, 0.3}, {0.2, 0.6}};
    for (int k = 0; k < 5; ++k) rows.push_back({far, far});
    const Centre centre = GeometricMedian(PointsAt(rows), Ones(rows));
    std::vector<double> near(centre.coefficients);
    double rest = 0;
    for (size_t i = 6; i < rows.size(); ++i) rest += near[i] * far;
    EXPECT_LT(rest, 10);
    EXPECT_LT(Combine(near, rows)[0], 10);
  }
}

TEST(GeometricMedianTest, RandomPoints_MatchTheReferenceToTheTolerance) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(absl::StrFormat("seed %d", seed));
    Random random(seed);
    Coordinates rows(3 + random.NextBelow(20),
                     std::vector<double>(2 + random.NextBelow(5)));
    std::vector<double> weights;
    for (auto& row : rows) {
      for (double& x : row) x = 10 + random.NextNormal();
      weights.push_back(1 + static_cast<double>(random.NextBelow(4)));
    }
    const std::vector<double> reference =
        WeiszfeldReference(rows, weights, 1e-14, 3000, false);
    EXPECT_LE(ReferenceDistance(MedianOf(rows, weights), reference), 1e-7);
  }
}

TEST(GeometricMedianTest, FewIterations_AreNotEnough) {
  const Coordinates rows = {{0, 0}, {1, 0}, {0, 1}, {7, 5}};
  const Centre centre =
      GeometricMedian(PointsAt(rows), Ones(rows), {.max_iterations = 2});
  EXPECT_FALSE(centre.converged);
  EXPECT_EQ(centre.iterations, 2);
  const Centre loose =
      GeometricMedian(PointsAt(rows), Ones(rows), {.tolerance = 0.01});
  const Centre tight = GeometricMedian(PointsAt(rows), Ones(rows));
  EXPECT_TRUE(loose.converged);
  EXPECT_LT(loose.iterations, tight.iterations);
}

TEST(SmoothedWeiszfeldTest, OneStep_IsByHand) {
  // From the mean 2: distances 2, 1, 3; floors of 1.5.
  const Coordinates rows = {{0}, {1}, {5}};
  const Centre mean = SmoothedWeiszfeld(PointsAt(rows), Ones(rows),
                                        {.iterations = 1, .smoothing = 1.5});
  const double total = 1 / 2.0 + 1 / 1.5 + 1 / 3.0;
  EXPECT_NEAR(mean.coefficients[0], 0.5 / total, 1e-12);
  EXPECT_NEAR(mean.coefficients[1], 1 / 1.5 / total, 1e-12);
  EXPECT_EQ(mean.iterations, 1);
  // From zero: distances 0, 1, 5.
  const Centre zero =
      SmoothedWeiszfeld(PointsAt(rows), Ones(rows),
                        {.iterations = 1, .smoothing = 1, .from_zero = true});
  EXPECT_NEAR(zero.coefficients[2], 0.2 / 2.2, 1e-12);
}

TEST(SmoothedWeiszfeldTest, EqualPoints_DivideByTheSmoothing) {
  const Centre centre = SmoothedWeiszfeld(PointsAt(Coordinates(4, {2, 2})),
                                          std::vector<double>(4, 1),
                                          {.iterations = 3, .smoothing = 1e-5});
  EXPECT_THAT(centre.coefficients, Each(0.25));
}

}  // namespace
}  // namespace koinon::aggregation
