#include "aggregation/geometry/geometric_median.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

#include "base/check.h"

namespace koinon::aggregation {
namespace {

// Points this much nearer than the median distance are where the iterate is.
constexpr double kOnPoint = 1e-6;
// A point is taken for the median before the iteration reaches it only if the
// condition holds with room to spare: on the border other places are as good.
constexpr double kClearly = 1 - 1e-9;

double Sum(absl::Span<const double> values) {
  double sum = 0;
  for (double value : values) sum += value;
  return sum;
}

// Middle or upper middle.
double MedianOf(std::vector<double> values) {
  const auto middle =
      values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

std::vector<double> Divided(std::vector<double> values, double divisor) {
  for (double& value : values) value /= divisor;
  return values;
}

// Coefficients of the points, without origin and state.
std::vector<double> OnPoints(const Points& points,
                             absl::Span<const double> parts) {
  std::vector<double> all(points.gram().points());
  std::copy(parts.begin(), parts.end(), all.begin());
  return all;
}

std::vector<double> WeightedMean(const Points& points,
                                 absl::Span<const double> weights) {
  return Divided(OnPoints(points, weights), Sum(weights));
}

bool AllEqual(const Points& points) {
  for (size_t i = 1; i < points.size(); ++i) {
    if (points.SquaredDistance(0, i) > 0) return false;
  }
  return true;
}

Centre At(const Points& points, const Place& place, int64_t iterations,
          bool converged) {
  Centre centre;
  centre.coefficients.assign(
      place.all().begin(),
      place.all().begin() + static_cast<ptrdiff_t>(points.size()));
  centre.distances = place.Distances();
  centre.iterations = iterations;
  centre.converged = converged;
  return centre;
}

class Weiszfeld {
 public:
  Weiszfeld(const Points& points, absl::Span<const double> weights,
            const GeometricMedianOptions& options)
      : points_(points),
        weights_(Divided({weights.begin(), weights.end()}, Sum(weights))),
        options_(options),
        place_(points),
        tested_(points.size()) {
    place_.MoveTo(WeightedMean(points, weights_));
  }

  Centre Run() {
    // Both are medians as they stand, and rounding must not move them.
    if (AllEqual(points_) ||
        (points_.size() == 2 && weights_[0] == weights_[1])) {
      return At(points_, place_, 0, true);
    }
    for (int64_t i = 1; i <= options_.max_iterations; ++i) {
      if (Step()) return At(points_, place_, i, true);
    }
    return At(points_, place_, options_.max_iterations, false);
  }

 private:
  // True once the place is the median.
  bool Step() {
    const std::vector<double> distances = place_.Distances();
    const size_t nearest = static_cast<size_t>(
        std::min_element(distances.begin(), distances.end()) -
        distances.begin());
    if (!tested_[nearest]) {
      tested_[nearest] = true;
      if (Pull(nearest) <= WeightAt(nearest) * kClearly) {
        return MoveToPoint(nearest);
      }
    }
    const double median_distance = MedianOf(distances);
    const double near = kOnPoint * median_distance;
    // Weiszfeld's step over the points that the place is not on.
    std::vector<double> pull(points_.gram().points());
    double weight_here = 0;
    for (size_t i = 0; i < points_.size(); ++i) {
      if (distances[i] <= near) {
        weight_here += weights_[i];
      } else {
        pull[i] = weights_[i] / distances[i];
      }
    }
    const double total = Sum(pull);
    if (total == 0) return true;
    double stay = 0;
    if (weight_here > 0) {
      const double strength = place_.Length(Less(pull, total, place_.all()));
      if (strength <= weight_here) return MoveToPoint(nearest);
      stay = weight_here / strength;
    }
    return MoveTo(std::move(pull), total, stay, median_distance);
  }

  // values - factor x others
  static std::vector<double> Less(std::vector<double> values, double factor,
                                  const std::vector<double>& others) {
    for (size_t i = 0; i < values.size(); ++i) values[i] -= factor * others[i];
    return values;
  }

  // To (1 - stay) target / total + stay x here; true if that is no way off.
  bool MoveTo(std::vector<double> target, double total, double stay,
              double median_distance) {
    for (size_t i = 0; i < target.size(); ++i) {
      target[i] = (1 - stay) * target[i] / total + stay * place_.all()[i];
    }
    const double step = place_.Length(Less(target, 1, place_.all()));
    place_.MoveTo(std::move(target));
    return step <= options_.tolerance *
                       std::max(place_.DistanceToOrigin(), median_distance);
  }

  bool MoveToPoint(size_t i) {
    std::vector<double> all(points_.gram().points());
    all[i] = 1;
    place_.MoveTo(std::move(all));
    return true;
  }

  // Of point k and its equals.
  double WeightAt(size_t k) const {
    double weight = 0;
    for (size_t i = 0; i < points_.size(); ++i) {
      if (points_.SquaredDistance(i, k) == 0) weight += weights_[i];
    }
    return weight;
  }

  // How hard the others pull at point k: the length of the sum of
  // w_i (x_i - x_k) / |x_i - x_k|. The point is the median if that is at most
  // its own weight.
  double Pull(size_t k) const {
    std::vector<double> all(points_.gram().points());
    for (size_t i = 0; i < points_.size(); ++i) {
      const double square = points_.SquaredDistance(i, k);
      if (square == 0) continue;
      all[i] = weights_[i] / std::sqrt(square);
      all[k] -= all[i];
    }
    return place_.Length(all);
  }

  const Points& points_;
  const std::vector<double> weights_;  // sum to 1
  const GeometricMedianOptions options_;
  Place place_;
  std::vector<bool> tested_;  // not the median, by Pull
};

}  // namespace

Centre GeometricMedian(const Points& points, absl::Span<const double> weights,
                       const GeometricMedianOptions& options) {
  KOINON_CHECK(points.has_distances() && points.size() > 0 &&
               weights.size() == points.size());
  return Weiszfeld(points, weights, options).Run();
}

Centre SmoothedWeiszfeld(const Points& points, absl::Span<const double> weights,
                         const SmoothedWeiszfeldOptions& options) {
  KOINON_CHECK(points.has_distances() && points.size() > 0 &&
               weights.size() == points.size() && options.iterations > 0);
  Place place(points);
  if (!options.from_zero) place.MoveTo(WeightedMean(points, weights));
  for (int64_t step = 0; step < options.iterations; ++step) {
    const std::vector<double> distances = place.Distances();
    std::vector<double> pull;
    for (size_t i = 0; i < points.size(); ++i) {
      pull.push_back(weights[i] / std::max(options.smoothing, distances[i]));
    }
    place.MoveTo(WeightedMean(points, pull));
  }
  return At(points, place, options.iterations, true);
}

}  // namespace koinon::aggregation
