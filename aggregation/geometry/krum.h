#ifndef KOINON_AGGREGATION_GEOMETRY_KRUM_H_
#define KOINON_AGGREGATION_GEOMETRY_KRUM_H_

#include <cstddef>
#include <vector>

#include "absl/types/span.h"
#include "aggregation/geometry/points.h"

namespace koinon::aggregation {

// Krum's scores (Blanchard et al. 2017, section 4): of each point the sum of
// the squared distances to the `neighbours` nearest other points, or to all of
// them if there are fewer. [m]. A distance that is not a number counts as
// infinite.
std::vector<double> KrumScores(const Points& points, size_t neighbours);

// The points with the `count` lowest scores, ascending by index; of equal
// scores the lower index. NaN is never lower than a number. count <= [m].
std::vector<size_t> LowestScores(absl::Span<const double> scores, size_t count);

// Bulyan's first stage (El Mhamdi et al. 2018, algorithm 1): `count` times the
// best point by Krum among those that remain, with max(1, remaining - f - 2)
// neighbours. Ascending. O(m^2) for each choice at worst.
std::vector<size_t> RecursiveKrum(const Points& points, size_t f, size_t count);

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_GEOMETRY_KRUM_H_
