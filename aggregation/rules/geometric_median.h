#ifndef KOINON_AGGREGATION_RULES_GEOMETRIC_MEDIAN_H_
#define KOINON_AGGREGATION_RULES_GEOMETRIC_MEDIAN_H_

#include <memory>

#include "absl/status/statusor.h"
#include "aggregation/rules/rule.h"
#include "proto/job.pb.h"

namespace koinon::aggregation {

// The place with the least sum of distances to the points, or what so many
// smoothed steps towards it reach (geometry/geometric_median.h).
// INVALID_ARGUMENT for options that are out of range or contradict each other.
absl::StatusOr<std::unique_ptr<Rule>> MakeGeometricMedian(
    const v1::AggregationSpec::GeometricMedian& spec);

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_RULES_GEOMETRIC_MEDIAN_H_
