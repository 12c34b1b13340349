#ifndef KOINON_AGGREGATION_RULES_PIPELINE_H_
#define KOINON_AGGREGATION_RULES_PIPELINE_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "aggregation/core/aggregator.h"
#include "aggregation/core/instruction_set.h"
#include "aggregation/geometry/pre_aggregation.h"
#include "aggregation/rules/rule.h"

namespace koinon::aggregation {

// A rule with its pre-aggregations as an Aggregator: one pass for the Gram
// matrix if a step needs distances, the steps on points, one pass for the
// result. Memory: blocks, and a few n x n matrices.
//
// max_weight: larger weights are capped to it; 0: no cap. INVALID_ARGUMENT if
// there is no number of updates that these steps could be applied to.
absl::StatusOr<std::unique_ptr<Aggregator>> MakePipeline(
    std::vector<PreAggregation> steps, std::unique_ptr<Rule> rule,
    double max_weight, InstructionSet instruction_set);

// More updates than this are not compared with each other, nor mixed: matrices
// of n x n would no longer be small.
inline constexpr size_t kMostComparedUpdates = 4096;

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_RULES_PIPELINE_H_
