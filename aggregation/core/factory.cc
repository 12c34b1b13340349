#include <memory>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "aggregation/core/aggregator.h"
#include "aggregation/rules/fedavg.h"
#include "aggregation/rules/fixed_point_mean.h"
#include "base/status_macros.h"

namespace koinon::aggregation {

absl::StatusOr<std::unique_ptr<Aggregator>> MakeAggregator(
    const v1::AggregationSpec& spec, const AggregatorOptions& options) {
  ABSL_RETURN_IF_ERROR(ResolveInstructionSet(options.instruction_set).status());
  if (spec.max_weight() < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("aggregation.max_weight is ", spec.max_weight(),
                     ", expected at least 0 (0: no cap)"));
  }
  switch (spec.rule_case()) {
    case v1::AggregationSpec::RULE_NOT_SET:  // the default
    case v1::AggregationSpec::kFedavg:
      if (spec.fedavg().arithmetic() ==
          v1::AggregationSpec::FedAvg::FIXED_POINT) {
        return MakeFixedPointMean(spec, options);
      }
      return MakeFedAvg(spec.fedavg(), static_cast<double>(spec.max_weight()));
    default:
      break;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "aggregation.rule is number ", spec.rule_case(), ", expected fedavg"));
}

}  // namespace koinon::aggregation
