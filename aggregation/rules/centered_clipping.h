#ifndef KOINON_AGGREGATION_RULES_CENTERED_CLIPPING_H_
#define KOINON_AGGREGATION_RULES_CENTERED_CLIPPING_H_

#include <memory>

#include "absl/status/statusor.h"
#include "aggregation/rules/rule.h"
#include "proto/job.pb.h"

namespace koinon::aggregation {

// The previous aggregate, moved by the mean of the clipped differences to it
// (geometry/centered_clipping.h). INVALID_ARGUMENT for options out of range.
absl::StatusOr<std::unique_ptr<Rule>> MakeCenteredClipping(
    const v1::AggregationSpec::CenteredClipping& spec);

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_RULES_CENTERED_CLIPPING_H_
