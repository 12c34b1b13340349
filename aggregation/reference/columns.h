#ifndef KOINON_AGGREGATION_REFERENCE_COLUMNS_H_
#define KOINON_AGGREGATION_REFERENCE_COLUMNS_H_

#include <cstddef>
#include <vector>

#include "absl/types/span.h"

namespace koinon::aggregation {

// The truth that fast coordinate rules are checked against: one column after
// the other is sorted whole, -0 before 0, without a thought for speed.
// ALGORITHMS 1.3, 1.4, 1.6.
struct ReferenceColumns {
  std::vector<double> value;  // [P], not rounded to fp32
  // Sum of the magnitudes of what was averaged, over their number. [P]
  std::vector<double> magnitude;
  std::vector<double> low;   // [P]: the least value that was kept
  std::vector<double> high;  // [P]: the greatest
};

// rows: [n][P], n >= 1, finite.
ReferenceColumns MedianReference(absl::Span<const std::vector<float>> rows);
// 2 trim < n.
ReferenceColumns TrimmedMeanReference(absl::Span<const std::vector<float>> rows,
                                      size_t trim);
// keep: [1, n].
ReferenceColumns MeanAroundReference(absl::Span<const std::vector<float>> rows,
                                     size_t keep);
// weights: [n], finite, >= 0, at least one > 0.
ReferenceColumns WeightedMedianReference(
    absl::Span<const std::vector<float>> rows,
    absl::Span<const double> weights);

// How far an fp32 result may lie from element j of the reference: half a unit
// in the last place of the result (at most 2^-24 of it, or half the smallest
// subnormal), and 2^-40 of the magnitude for sums in double of fewer than 2^12
// values in another order.
double ColumnTolerance(const ReferenceColumns& reference, size_t j);

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_REFERENCE_COLUMNS_H_
