#ifndef KOINON_AGGREGATION_RULES_FIXED_POINT_MEAN_H_
#define KOINON_AGGREGATION_RULES_FIXED_POINT_MEAN_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "aggregation/core/aggregator.h"
#include "aggregation/core/fixed_point.h"
#include "aggregation/core/rows.h"
#include "base/model_layout.h"
#include "proto/job.pb.h"

namespace koinon::aggregation {

// FedAvg in fixed point (AggregationSpec.FedAvg.FIXED_POINT), whole: all
// updates of a set at once. The pieces below are what a coordinator needs that
// adds updates as they arrive; both give the same bytes.
//
// INVALID_ARGUMENT: FixedPoint::Of's, a pre-aggregation (it would have to see
// all updates), max_weight with `uniform`. The aggregator's errors: those of
// Aggregator, TotalWeightError, and OutlierError, which blames the worker.
absl::StatusOr<std::unique_ptr<Aggregator>> MakeFixedPointMean(
    const v1::AggregationSpec& spec, const AggregatorOptions& options = {});

// What an update with so many examples counts as: capped, rounded
// (FixedPointWeight); 1 if `uniform`.
double FixedPointWeightOf(const v1::AggregationSpec& spec, double examples);

// Updates of which the same elements are read together: more only costs memory.
inline constexpr size_t kFixedPointRows = 16;
// Elements that are worth reading at a time.
inline constexpr size_t kFixedPointBlock = 16384;

// Adds elements [offset, offset + sums.size()) of each row to `sums`. weights:
// [rows.size()], from FixedPointWeight. `scratch` is memory to read into, kept
// from call to call. An error blames the row's worker (OutlierError, or what
// its source says); `sums` is then of no use.
absl::Status AddFixedPointRows(const FixedPoint& format,
                               const ModelLayout& layout, const Rows& rows,
                               absl::Span<const double> weights, size_t offset,
                               absl::Span<int64_t> sums,
                               InstructionSet instruction_set,
                               std::vector<float>* scratch);

// Elements [offset, offset + sums.size()) of whole sums. Called from one thread
// at a time, in ascending order.
using ReadSums =
    std::function<absl::Status(size_t offset, absl::Span<int64_t> sums)>;

// Writes the mean of `elements` sums to `out`. Errors: those of `read` and the
// sink.
absl::Status WriteFixedPointMean(const FixedPoint& format, double total_weight,
                                 size_t elements, const ReadSums& read,
                                 UpdateSink* out);

// The part that one update has in a sum.
struct FixedPointPart {
  WorkerId worker;
  double weight = 0;    // from FixedPointWeightOf
  double discount = 1;  // of its values
};
// The report of either way. `parts` in canonical order.
v1::AggregationReport FixedPointReport(absl::Span<const FixedPointPart> parts,
                                       InstructionSet instruction_set);

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_RULES_FIXED_POINT_MEAN_H_
