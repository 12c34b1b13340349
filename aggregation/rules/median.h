#ifndef KOINON_AGGREGATION_RULES_MEDIAN_H_
#define KOINON_AGGREGATION_RULES_MEDIAN_H_

#include <memory>

#include "absl/status/statusor.h"
#include "aggregation/rules/rule.h"
#include "proto/job.pb.h"

namespace koinon::aggregation {

// Of each coordinate the median: for an even number the mean of the two
// middles, or, weighted by examples, the lower weighted median.
// INVALID_ARGUMENT for options out of range.
absl::StatusOr<std::unique_ptr<Rule>> MakeMedian(
    const v1::AggregationSpec::Median& spec);

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_RULES_MEDIAN_H_
