#include "aggregation/geometry/testing_points.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <utility>

namespace koinon::aggregation {
namespace {

double Dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t j = 0; j < a.size(); ++j) sum += a[j] * b[j];
  return sum;
}

std::vector<double> Minus(std::vector<double> a, const std::vector<double>& b) {
  for (size_t j = 0; j < a.size(); ++j) a[j] -= b[j];
  return a;
}

}  // namespace

Gram GramOf(const Coordinates& rows,
            const std::optional<std::vector<double>>& previous) {
  Coordinates all = rows;
  all.emplace_back(rows[0].size());
  if (previous.has_value()) all.push_back(*previous);
  Gram gram;
  gram.n = rows.size();
  gram.has_previous = previous.has_value();
  for (const auto& a : all) {
    for (const auto& b : all) {
      gram.products.push_back(Dot(Minus(a, rows[0]), Minus(b, rows[0])));
    }
  }
  return gram;
}

Points PointsAt(const Coordinates& rows, std::vector<double> weights,
                const std::optional<std::vector<double>>& previous) {
  const std::vector<double> ones(rows.size(), 1);
  if (weights.empty()) weights = ones;
  return Points(GramOf(rows, previous), weights, ones);
}

std::vector<double> Combine(const std::vector<double>& coefficients,
                            const Coordinates& rows) {
  std::vector<double> sum(rows[0].size());
  for (size_t i = 0; i < rows.size(); ++i) {
    for (size_t j = 0; j < sum.size(); ++j) {
      sum[j] += coefficients[i] * rows[i][j];
    }
  }
  return sum;
}

Coordinates Locate(const Points& points, const Coordinates& rows) {
  Coordinates places;
  for (size_t i = 0; i < points.size(); ++i) {
    std::vector<double> one(points.size());
    one[i] = 1;
    places.push_back(Combine(points.OverUpdates(one), rows));
  }
  return places;
}

void ExpectDistancesOf(const Points& points, const Coordinates& places,
                       double tolerance) {
  ASSERT_EQ(points.size(), places.size());
  for (size_t i = 0; i < places.size(); ++i) {
    EXPECT_NEAR(points.SquaredNorm(i), Dot(places[i], places[i]), tolerance);
    for (size_t j = 0; j < places.size(); ++j) {
      const std::vector<double> difference = Minus(places[i], places[j]);
      EXPECT_NEAR(points.SquaredDistance(i, j), Dot(difference, difference),
                  tolerance);
      EXPECT_NEAR(points.Dot(i, j), Dot(places[i], places[j]), tolerance);
    }
  }
}

}  // namespace koinon::aggregation
