#ifndef KOINON_AGGREGATION_REFERENCE_VECTOR_RULES_H_
#define KOINON_AGGREGATION_REFERENCE_VECTOR_RULES_H_

#include <cstddef>
#include <vector>

namespace koinon::aggregation {

// The rules that look at distances, written from their definitions over the
// updates themselves, in long double where it matters: no Gram matrix, nothing
// shared with the fast ones.
using ReferenceRows = std::vector<std::vector<double>>;  // [n][P]

double ReferenceDistance(const std::vector<double>& a,
                         const std::vector<double>& b);

// Krum's scores with so many neighbours. [n]
std::vector<double> KrumScoresReference(const ReferenceRows& rows,
                                        size_t neighbours);

// The updates that Bulyan's first stage chooses, in the order of choice.
std::vector<size_t> BulyanSelectionReference(const ReferenceRows& rows,
                                             size_t f);

// sum w_i |x_i - z|, what a geometric median makes least.
double SumOfDistancesReference(const ReferenceRows& rows,
                               const std::vector<double>& weights,
                               const std::vector<double>& z);

// Weiszfeld's iteration over the parameters from the weighted mean (or zero),
// distances below `smoothing` counting as it.
std::vector<double> WeiszfeldReference(const ReferenceRows& rows,
                                       const std::vector<double>& weights,
                                       double smoothing, size_t iterations,
                                       bool from_zero);

// Centered clipping from v.
std::vector<double> CenteredClippingReference(const ReferenceRows& rows,
                                              std::vector<double> v, double tau,
                                              size_t iterations);

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_REFERENCE_VECTOR_RULES_H_
