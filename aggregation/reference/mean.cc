#include "aggregation/reference/mean.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace koinon::aggregation {

ReferenceMean MeanReference(absl::Span<const absl::Span<const float>> rows,
                            absl::Span<const double> weights) {
  // Scaled, so that huge weights do not overflow the products.
  const double largest = *std::max_element(weights.begin(), weights.end());
  long double total = 0;
  for (double weight : weights) total += weight / largest;
  ReferenceMean reference;
  for (size_t j = 0; j < rows[0].size(); ++j) {
    long double sum = 0;
    long double magnitude = 0;
    for (size_t i = 0; i < rows.size(); ++i) {
      const long double term =
          static_cast<long double>(weights[i] / largest) * rows[i][j];
      sum += term;
      magnitude += std::fabs(term);
    }
    reference.mean.push_back(static_cast<double>(sum / total));
    reference.magnitude.push_back(static_cast<double>(magnitude / total));
  }
  return reference;
}

double MeanTolerance(const ReferenceMean& reference, size_t j) {
  return std::max(0x1p-24 * std::fabs(reference.mean[j]), 0x1p-150) +
         0x1p-27 * reference.magnitude[j];
}

}  // namespace koinon::aggregation
