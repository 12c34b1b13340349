#include "aggregation/reference/gram.h"

#include <cstddef>

namespace koinon::aggregation {
namespace {

double SquaredDistance(absl::Span<const float> a, absl::Span<const float> b) {
  long double sum = 0;
  for (size_t j = 0; j < a.size(); ++j) {
    const long double difference =
        static_cast<long double>(a[j]) - static_cast<long double>(b[j]);
    sum += difference * difference;
  }
  return static_cast<double>(sum);
}

}  // namespace

std::vector<std::vector<double>> SquaredDistancesReference(
    absl::Span<const absl::Span<const float>> rows) {
  std::vector<std::vector<double>> squared(rows.size(),
                                           std::vector<double>(rows.size()));
  for (size_t i = 0; i < rows.size(); ++i) {
    for (size_t k = 0; k < i; ++k) {
      squared[i][k] = squared[k][i] = SquaredDistance(rows[i], rows[k]);
    }
  }
  return squared;
}

}  // namespace koinon::aggregation
