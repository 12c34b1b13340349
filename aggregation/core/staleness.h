#ifndef KOINON_AGGREGATION_CORE_STALENESS_H_
#define KOINON_AGGREGATION_CORE_STALENESS_H_

#include <cstdint>

#include "proto/job.pb.h"

namespace koinon::aggregation {

// What an update counts for that starts from a version `staleness` (>= 0)
// versions older than the newest, in (0, 1]; 1 for a fresh one, so that a
// buffer without staleness is a synchronous round bit for bit (Nguyen et al.
// 2022, section 3; Xie et al. 2019 for the other forms). `buffer` is validated
// and has its defaults filled in. Pure; not increasing in `staleness`.
//
// FLSim divides the discount by that of the mean staleness; nothing is divided
// here.
double StalenessDiscount(const v1::BufferSpec& buffer, int64_t staleness);

// Whether the rule looks at the updates' weights at all: only then can
// discounts go into them (BufferSpec.BY_DISCOUNT).
bool UsesWeights(const v1::AggregationSpec& aggregation);

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_CORE_STALENESS_H_
