#ifndef KOINON_AGGREGATION_CORE_FIXED_POINT_H_
#define KOINON_AGGREGATION_CORE_FIXED_POINT_H_

#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "aggregation/core/instruction_set.h"
#include "proto/job.pb.h"

namespace koinon::aggregation {

// How a weighted sum of updates is kept in integers: sum of round(w x 2^bits),
// half to even, in int64. Integer sums are associative: updates may be added in
// any order, in any tree, and give the same bytes. A value.
//
// Each w x 2^bits is computed without rounding: w has at most 29 significant
// bits (FixedPointWeight), x has 24, a double has 53, and a power of two costs
// none. So every instruction set, with fused operations or without, rounds the
// same number to the same integer.
struct FixedPoint {
  double range = 0;         // |x| <= range
  double total_weight = 0;  // the sum of weights stays <= total_weight
  int bits = 0;  // floor(62 - log2(range * total_weight)): no sum overflows

  // With the defaults filled in. INVALID_ARGUMENT for numbers that are not
  // finite and > 0, or that leave bits outside [-62, 60].
  static absl::StatusOr<FixedPoint> Of(const v1::AggregationSpec::FedAvg& spec);

  // The largest fp32 within the range.
  float LargestValue() const;
};

// `weight` (finite, >= 0) rounded to 29 significant bits: what it counts as.
// Example counts below 2^29 are not changed; of others each is off by at most
// 2^-29 of itself.
double FixedPointWeight(double weight);

// One update's part of a sum.
struct FixedPointTerm {
  double weight = 0;              // what FixedPointWeight returned
  const float* values = nullptr;  // [sums.size()]
};
// A value that is NaN or beyond the range: the first of its element's terms, of
// the first such element.
struct FixedPointOutlier {
  size_t term = 0;
  size_t element = 0;
  float value = 0;
};

// sums[j] += round(weight * values[j] * 2^bits) for each term: so many updates
// that the sums are read and written once. nullopt; or an outlier, and `sums`
// is then of no use any more. Requires that the weights of all that was ever
// added stay within the format's total, else sums wrap around.
// `instruction_set`: one that the processor has, not kBest.
std::optional<FixedPointOutlier> AddFixedPoint(
    const FixedPoint& format, absl::Span<const FixedPointTerm> terms,
    absl::Span<int64_t> sums, InstructionSet instruction_set);

// out[j] = fp32(double(sums[j]) / (total_weight 2^bits)), each step rounded to
// nearest, half to even; the same on every processor.
void FixedPointMean(const FixedPoint& format, double total_weight,
                    absl::Span<const int64_t> sums, absl::Span<float> out);

// INVALID_ARGUMENT that says which value of which tensor element is beyond
// which range, and what to do. `element`: as ModelLayout describes it.
absl::Status OutlierError(const FixedPoint& format, absl::string_view element,
                          float value);
// FAILED_PRECONDITION: `sum_of_weights` is more than the format has room for.
absl::Status TotalWeightError(const FixedPoint& format, double sum_of_weights);

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_CORE_FIXED_POINT_H_
