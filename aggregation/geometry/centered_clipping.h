#ifndef KOINON_AGGREGATION_GEOMETRY_CENTERED_CLIPPING_H_
#define KOINON_AGGREGATION_GEOMETRY_CENTERED_CLIPPING_H_

#include <cstdint>

#include "aggregation/geometry/centre.h"
#include "aggregation/geometry/points.h"

namespace koinon::aggregation {

// `iterations` times v <- v + mean of (x_i - v) min(1, tau / |x_i - v|), from
// the previous aggregate, or from the origin if the Gram matrix has none
// (Karimireddy et al. 2021, section 4). A point at v has factor 1.
//
// Requires distances, m >= 1, tau > 0, iterations >= 1.
Centre CenteredClipping(const Points& points, double tau, int64_t iterations);

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_GEOMETRY_CENTERED_CLIPPING_H_
