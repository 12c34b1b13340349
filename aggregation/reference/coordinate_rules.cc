#include "aggregation/reference/coordinate_rules.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace koinon::aggregation {
namespace {

double MeanOf(const std::vector<double>& values) {
  long double sum = 0;
  for (double value : values) sum += value;
  return static_cast<double>(sum / static_cast<long double>(values.size()));
}

}  // namespace

double MedianReference(std::vector<double> column) {
  std::sort(column.begin(), column.end());
  const size_t n = column.size();
  return n % 2 == 1 ? column[n / 2]
                    : MeanOf({column[n / 2 - 1], column[n / 2]});
}

double LowerWeightedMedianReference(const std::vector<double>& column,
                                    const std::vector<double>& weights) {
  long double total = 0;
  for (double weight : weights) total += weight;
  double best = std::numeric_limits<double>::infinity();
  for (double value : column) {
    long double up_to = 0;
    for (size_t i = 0; i < column.size(); ++i) {
      if (column[i] <= value) up_to += weights[i];
    }
    if (2 * up_to >= total) best = std::min(best, value);
  }
  return best;
}

double TrimmedMeanReference(std::vector<double> column, size_t b) {
  for (size_t k = 0; k < b; ++k) {
    column.erase(std::min_element(column.begin(), column.end()));
    column.erase(std::max_element(column.begin(), column.end()));
  }
  return MeanOf(column);
}

double MeanAroundMedianReference(std::vector<double> column, size_t keep) {
  const double median = MedianReference(column);
  std::sort(column.begin(), column.end());
  std::stable_sort(column.begin(), column.end(), [&](double a, double b) {
    return std::fabs(a - median) < std::fabs(b - median);
  });
  column.resize(keep);
  return MeanOf(column);
}

}  // namespace koinon::aggregation
