#ifndef KOINON_AGGREGATION_RULES_FEDAVG_H_
#define KOINON_AGGREGATION_RULES_FEDAVG_H_

#include <memory>

#include "absl/status/statusor.h"
#include "aggregation/core/aggregator.h"
#include "proto/job.pb.h"

namespace koinon::aggregation {

// The mean of the updates, weighted by their numbers of examples (McMahan et
// al. 2017, algorithm 1), or unweighted if `uniform`. One update is its own
// mean, bit for bit.
//
// `max_weight`: larger weights are capped to it; 0: no cap. INVALID_ARGUMENT
// for a cap on weights that `uniform` ignores.
absl::StatusOr<std::unique_ptr<Aggregator>> MakeFedAvg(
    const v1::AggregationSpec::FedAvg& spec, double max_weight);

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_RULES_FEDAVG_H_
