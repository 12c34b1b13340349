#ifndef KOINON_AGGREGATION_REFERENCE_COORDINATE_RULES_H_
#define KOINON_AGGREGATION_REFERENCE_COORDINATE_RULES_H_

#include <cstddef>
#include <vector>

namespace koinon::aggregation {

// What coordinate rules make of one column, by sorting it whole: nothing shared
// with the fast ones. All take the column by value. n >= 1.

// Even n: the mean of the two middles.
double MedianReference(std::vector<double> column);
// The smallest value with the weights of the values up to it at least half of
// all.
double LowerWeightedMedianReference(const std::vector<double>& column,
                                    const std::vector<double>& weights);
// The mean without the b lowest and b highest. 2b < n.
double TrimmedMeanReference(std::vector<double> column, size_t b);
// The mean of the `keep` values nearest to the median; of two equally near ones
// the smaller first.
double MeanAroundMedianReference(std::vector<double> column, size_t keep);

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_REFERENCE_COORDINATE_RULES_H_
