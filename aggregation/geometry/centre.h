#ifndef KOINON_AGGREGATION_GEOMETRY_CENTRE_H_
#define KOINON_AGGREGATION_GEOMETRY_CENTRE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "aggregation/geometry/points.h"

namespace koinon::aggregation {

// Where an iteration over points ended: a linear combination of the points, the
// origin and the previous aggregate.
struct Centre {
  std::vector<double> coefficients;  // [m], >= 0
  double previous = 0;               // of the previous aggregate; >= 0
  std::vector<double> distances;     // [m]: from the points to it
  std::vector<double> factors;       // [m]: of centered clipping's last step
  int64_t iterations = 0;
  bool converged = true;
};

// A place in the space of the points, for iterations. Borrows `points`.
class Place {
 public:
  // At the origin.
  explicit Place(const Points& points);

  // all: [Gram::points()], sums to 1: the points, the origin, the previous
  // aggregate.
  void MoveTo(std::vector<double> all);
  const std::vector<double>& all() const { return all_; }
  // From each point. [m]
  std::vector<double> Distances() const;
  // The length of sum of all[i] p_i for a direction: all sums to 0.
  double Length(absl::Span<const double> all) const;
  double DistanceToOrigin() const;

 private:
  // Gram matrix x all.
  std::vector<double> Times(absl::Span<const double> all) const;
  // From point i of the Gram matrix, times_ being known.
  double Distance(size_t i) const;

  const Points& points_;
  std::vector<double> all_;
  std::vector<double> times_;  // Times(all_)
  double square_ = 0;          // |place|^2, from the Gram matrix's centre
};

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_GEOMETRY_CENTRE_H_
