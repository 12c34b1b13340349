#include "aggregation/geometry/centre.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"

namespace koinon::aggregation {
namespace {

double Dot(absl::Span<const double> a, absl::Span<const double> b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace

Place::Place(const Points& points) : points_(points) {
  std::vector<double> origin(points.gram().points());
  origin[points.gram().origin()] = 1;
  MoveTo(std::move(origin));
}

void Place::MoveTo(std::vector<double> all) {
  KOINON_CHECK(all.size() == points_.gram().points());
  all_ = std::move(all);
  times_ = Times(all_);
  square_ = Dot(all_, times_);
}

std::vector<double> Place::Distances() const {
  std::vector<double> distances;
  for (size_t i = 0; i < points_.size(); ++i) distances.push_back(Distance(i));
  return distances;
}

double Place::Length(absl::Span<const double> all) const {
  return std::sqrt(std::max(0.0, Dot(all, Times(all))));
}

double Place::DistanceToOrigin() const {
  return Distance(points_.gram().origin());
}

std::vector<double> Place::Times(absl::Span<const double> all) const {
  const Gram& gram = points_.gram();
  const size_t n = gram.points();
  std::vector<double> product(n);
  // Symmetric: by rows, which the compiler makes vectors of.
  for (size_t i = 0; i < n; ++i) {
    if (all[i] == 0) continue;
    const double* const row = &gram.products[i * n];
    for (size_t j = 0; j < n; ++j) product[j] += all[i] * row[j];
  }
  return product;
}

double Place::Distance(size_t i) const {
  return std::sqrt(
      std::max(0.0, points_.gram().At(i, i) - 2 * times_[i] + square_));
}

}  // namespace koinon::aggregation
