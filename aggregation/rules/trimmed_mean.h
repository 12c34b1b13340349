#ifndef KOINON_AGGREGATION_RULES_TRIMMED_MEAN_H_
#define KOINON_AGGREGATION_RULES_TRIMMED_MEAN_H_

#include <memory>

#include "absl/status/statusor.h"
#include "aggregation/rules/rule.h"
#include "proto/job.pb.h"

namespace koinon::aggregation {

// Of each coordinate the mean without the b lowest and the b highest values
// (Yin et al. 2018). INVALID_ARGUMENT unless exactly one of f and beta is given
// and in range.
absl::StatusOr<std::unique_ptr<Rule>> MakeTrimmedMean(
    const v1::AggregationSpec::TrimmedMean& spec);

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_RULES_TRIMMED_MEAN_H_
