#ifndef KOINON_AGGREGATION_REFERENCE_PRE_AGGREGATIONS_H_
#define KOINON_AGGREGATION_REFERENCE_PRE_AGGREGATIONS_H_

#include <cstddef>
#include <vector>

#include "aggregation/reference/vector_rules.h"

namespace koinon::aggregation {

// Steps before a rule, over the updates themselves.

ReferenceRows NormClippingReference(ReferenceRows rows, double norm);
// The longest floor(2 f (n - f) / n) are clipped to the next one's length.
ReferenceRows ArcReference(ReferenceRows rows, size_t f);
// Each becomes the mean of the n - f nearest, itself among them; of equally
// near ones the first.
ReferenceRows NearestNeighbourMixingReference(const ReferenceRows& rows,
                                              size_t f);
// The cosine of each update with the geometric median of their directions.
// Updates are not zero.
std::vector<double> CosinesReference(const ReferenceRows& rows);

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_REFERENCE_PRE_AGGREGATIONS_H_
