#ifndef KOINON_AGGREGATION_RULES_KRUM_H_
#define KOINON_AGGREGATION_RULES_KRUM_H_

#include <memory>

#include "absl/status/statusor.h"
#include "aggregation/rules/rule.h"
#include "proto/job.pb.h"

namespace koinon::aggregation {

// The point closest to its neighbours, or the mean of the m closest (Blanchard
// et al. 2017), by the convention that the options name (proto/job.proto).
// INVALID_ARGUMENT for options out of range.
absl::StatusOr<std::unique_ptr<Rule>> MakeKrum(
    const v1::AggregationSpec::Krum& spec);
absl::StatusOr<std::unique_ptr<Rule>> MakeMultiKrum(
    const v1::AggregationSpec::MultiKrum& spec);

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_RULES_KRUM_H_
