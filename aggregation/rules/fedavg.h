#ifndef KOINON_AGGREGATION_RULES_FEDAVG_H_
#define KOINON_AGGREGATION_RULES_FEDAVG_H_

#include <memory>

#include "absl/status/statusor.h"
#include "aggregation/rules/rule.h"
#include "proto/job.pb.h"

namespace koinon::aggregation {

// The mean of the updates, weighted by their numbers of examples (McMahan et
// al. 2017, algorithm 1), or unweighted if `uniform`; in double. One update is
// its own mean, bit for bit. Discounts make an update shorter, not its weight
// smaller. INVALID_ARGUMENT for options of the fixed-point arithmetic, which
// has an Aggregator of its own.
absl::StatusOr<std::unique_ptr<Rule>> MakeFedAvg(
    const v1::AggregationSpec::FedAvg& spec);

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_RULES_FEDAVG_H_
