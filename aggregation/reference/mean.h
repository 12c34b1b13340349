#ifndef KOINON_AGGREGATION_REFERENCE_MEAN_H_
#define KOINON_AGGREGATION_REFERENCE_MEAN_H_

#include <cstddef>
#include <vector>

#include "absl/types/span.h"

namespace koinon::aggregation {

// The truth that fast means are checked against: one column after the other, in
// the widest arithmetic there is, without a thought for speed.
struct ReferenceMean {
  std::vector<double> mean;       // [P]: sum w[i] x[i] / sum w[i]
  std::vector<double> magnitude;  // [P]: sum w[i] |x[i]| / sum w[i]
};

// rows: [n][P], n >= 1; weights: [n], finite, >= 0, at least one > 0.
ReferenceMean MeanReference(absl::Span<const absl::Span<const float>> rows,
                            absl::Span<const double> weights);

// How far an fp32 mean may lie from element j of the reference: half a unit in
// the last place of the result (at most 2^-24 of it, or half the smallest
// subnormal), 2^-28 of the magnitude for the rounding of weights (ExactWeights:
// 2^-29 each in sum and scale), and as much again of slack for sums in double.
double MeanTolerance(const ReferenceMean& reference, size_t j);

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_REFERENCE_MEAN_H_
