#ifndef KOINON_AGGREGATION_GEOMETRY_GEOMETRIC_MEDIAN_H_
#define KOINON_AGGREGATION_GEOMETRY_GEOMETRIC_MEDIAN_H_

#include <cstdint>

#include "absl/types/span.h"
#include "aggregation/geometry/centre.h"
#include "aggregation/geometry/points.h"

namespace koinon::aggregation {

// The place with the least sum of weighted distances to the points, by
// Weiszfeld's iteration from the weighted mean, with the step of Vardi and
// Zhang (2000) out of a point that the iteration lands on. Nothing here touches
// parameters: an iteration costs m^2.
//
// A point that is the median is found exactly, by the optimality condition of
// the point nearest to the iterate, and has coefficient 1. Where many places
// are equally good (two points of equal weight, points on a line) the answer is
// the one that the iteration reaches from the weighted mean: for two equal
// points the mean itself.
//
// Converged: the last step was shorter than `tolerance` times the larger of the
// place's norm and the median distance to the points.
//
// weights: [m], finite, > 0. Requires distances and m >= 1.
struct GeometricMedianOptions {
  double tolerance = 1e-10;
  int64_t max_iterations = 1000;
};
Centre GeometricMedian(const Points& points, absl::Span<const double> weights,
                       const GeometricMedianOptions& options = {});

// Exactly `iterations` steps to sum beta_i x_i / sum beta_i with
// beta_i = w_i / max(smoothing, |z - x_i|) (Pillutla et al. 2022, algorithm 2).
// iterations >= 1.
struct SmoothedWeiszfeldOptions {
  int64_t iterations = 0;
  double smoothing = 0;    // > 0
  bool from_zero = false;  // else from the weighted mean
};
Centre SmoothedWeiszfeld(const Points& points, absl::Span<const double> weights,
                         const SmoothedWeiszfeldOptions& options);

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_GEOMETRY_GEOMETRIC_MEDIAN_H_
