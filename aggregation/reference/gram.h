#ifndef KOINON_AGGREGATION_REFERENCE_GRAM_H_
#define KOINON_AGGREGATION_REFERENCE_GRAM_H_

#include <vector>

#include "absl/types/span.h"

namespace koinon::aggregation {

// Squared distances between the rows, each summed in long double over exact
// differences, one pair after the other: the truth for Gram matrices.
// rows: [n][P], finite. Returns [n][n].
std::vector<std::vector<double>> SquaredDistancesReference(
    absl::Span<const absl::Span<const float>> rows);

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_REFERENCE_GRAM_H_
