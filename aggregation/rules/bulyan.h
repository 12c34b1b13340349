#ifndef KOINON_AGGREGATION_RULES_BULYAN_H_
#define KOINON_AGGREGATION_RULES_BULYAN_H_

#include <memory>

#include "absl/status/statusor.h"
#include "aggregation/rules/rule.h"
#include "proto/job.pb.h"

namespace koinon::aggregation {

// theta = n - 2f points chosen by Krum, then of each coordinate the mean of the
// theta - 2f values nearest to their median (El Mhamdi et al. 2018). n >= 4f
// + 3. INVALID_ARGUMENT for options out of range.
absl::StatusOr<std::unique_ptr<Rule>> MakeBulyan(
    const v1::AggregationSpec::Bulyan& spec);

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_RULES_BULYAN_H_
