#ifndef KOINON_AGGREGATION_GEOMETRY_TESTING_POINTS_H_
#define KOINON_AGGREGATION_GEOMETRY_TESTING_POINTS_H_

#include <optional>
#include <vector>

#include "aggregation/core/gram.h"
#include "aggregation/geometry/points.h"

namespace koinon::aggregation {

// What the tests of geometry share: points that are small enough to be written
// down.

using Coordinates = std::vector<std::vector<double>>;  // [n][dimensions]

// Centred at the first row.
Gram GramOf(const Coordinates& rows,
            const std::optional<std::vector<double>>& previous = std::nullopt);
// Without discounts; weights: [n], empty for ones.
Points PointsAt(
    const Coordinates& rows, std::vector<double> weights = {},
    const std::optional<std::vector<double>>& previous = std::nullopt);

// sum of coefficients[i] rows[i]
std::vector<double> Combine(const std::vector<double>& coefficients,
                            const Coordinates& rows);
// Where `points`, made of the updates at `rows`, are. [m][dimensions]
Coordinates Locate(const Points& points, const Coordinates& rows);

// Every distance, norm and dot product is that of the places.
void ExpectDistancesOf(const Points& points, const Coordinates& places,
                       double tolerance);

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_GEOMETRY_TESTING_POINTS_H_
