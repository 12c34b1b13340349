#include "aggregation/geometry/centered_clipping.h"

#include <cstddef>
#include <utility>
#include <vector>

#include "base/check.h"

namespace koinon::aggregation {

Centre CenteredClipping(const Points& points, double tau, int64_t iterations) {
  KOINON_CHECK(points.has_distances() && points.size() > 0 && tau > 0 &&
               iterations > 0);
  const Gram& gram = points.gram();
  const auto m = static_cast<double>(points.size());
  Place place(points);
  if (gram.has_previous) {
    std::vector<double> all(gram.points());
    all[gram.previous()] = 1;
    place.MoveTo(std::move(all));
  }
  Centre centre;
  for (int64_t step = 0; step < iterations; ++step) {
    const std::vector<double> distances = place.Distances();
    centre.factors.clear();
    double sum = 0;
    for (double distance : distances) {
      centre.factors.push_back(distance > tau ? tau / distance : 1);
      sum += centre.factors.back();
    }
    const double stay = 1 - sum / m;  // v gives way by the mean factor
    std::vector<double> all = place.all();
    for (double& part : all) part *= stay;
    for (size_t i = 0; i < points.size(); ++i) {
      all[i] += centre.factors[i] / m;
    }
    place.MoveTo(std::move(all));
  }
  centre.coefficients.assign(
      place.all().begin(),
      place.all().begin() + static_cast<ptrdiff_t>(points.size()));
  if (gram.has_previous) centre.previous = place.all()[gram.previous()];
  centre.distances = place.Distances();
  centre.iterations = iterations;
  return centre;
}

}  // namespace koinon::aggregation
