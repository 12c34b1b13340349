#ifndef KOINON_COORDINATOR_FOLDS_SUM_MEAN_H_
#define KOINON_COORDINATOR_FOLDS_SUM_MEAN_H_

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "aggregation/core/aggregator.h"
#include "aggregation/core/update_set.h"
#include "coordinator/journal/journal.h"
#include "coordinator/spool/spool.h"
#include "proto/job.pb.h"

namespace koinon::coordinator {

// FedAvg in fixed point over a set whose updates have been added up already: it
// takes workers and weights from the set, and the values from the running sum
// `row`, which must hold exactly the set's updates. The same bytes and report
// as aggregation::MakeFixedPointMean gives over the updates themselves.
//
// Errors of the factory: that function's. Of the aggregator:
// FAILED_PRECONDITION for no update; ABORTED for a sum that is not there or not
// `row`'s, for the round can be done again; the sink's. `spool` must outlive
// it.
absl::StatusOr<std::unique_ptr<aggregation::Aggregator>> MakeSumMean(
    const Spool* spool, const v1::AggregationSpec& spec, const FoldRow& row,
    const aggregation::AggregatorOptions& options = {});

// Stands for the values of an update that are only in a sum.
class SummedSource final : public aggregation::UpdateSource {
 public:
  // FAILED_PRECONDITION, always.
  absl::StatusOr<const float*> Read(size_t offset, size_t count,
                                    float* scratch) const override;
};

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_FOLDS_SUM_MEAN_H_
