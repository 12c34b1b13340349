#ifndef KOINON_AGGREGATION_CORE_FIXED_POINT_H_
#define KOINON_AGGREGATION_CORE_FIXED_POINT_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "aggregation/core/instruction_set.h"
#include "proto/job.pb.h"

namespace koinon::aggregation {

// How a weighted sum of updates is kept in integers: sum of round(w x 2^bits),
// half to even, in int64. Integer sums are associative: updates may be added in
// any order, in any tree, and give the same bytes. A value.
struct FixedPoint {
  double range = 0;         // |x| <= range
  double total_weight = 0;  // the sum of weights stays <= total_weight
  int bits = 0;  // floor(62 - log2(range * total_weight)): no sum overflows

  // With the defaults filled in. INVALID_ARGUMENT for numbers that are not
  // finite and > 0, or that leave bits outside [-62, 60].
  static absl::StatusOr<FixedPoint> Of(const v1::AggregationSpec::FedAvg& spec);
};

// sums[j] += round(weight * values[j] * 2^bits). Returns the index of the first
// value beyond the range, before which everything was added and from which
// nothing was; `values.size()` if there is none. The same on any instruction
// set.
size_t AddFixedPoint(const FixedPoint& format, double weight,
                     absl::Span<const float> values, absl::Span<int64_t> sums,
                     InstructionSet instruction_set);

// out[j] = sums[j] / (total_weight 2^bits), rounded once to double and once to
// fp32.
void FixedPointMean(const FixedPoint& format, double total_weight,
                    absl::Span<const int64_t> sums, absl::Span<float> out);

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_CORE_FIXED_POINT_H_
