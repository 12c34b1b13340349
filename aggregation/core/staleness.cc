#include "aggregation/core/staleness.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace koinon::aggregation {

double StalenessDiscount(const v1::BufferSpec& buffer, int64_t staleness) {
  switch (buffer.discount_case()) {
    case v1::BufferSpec::kConstant:
      return 1;
    case v1::BufferSpec::kThreshold:
      return staleness <= buffer.threshold().staleness()
                 ? 1
                 : buffer.threshold().factor();
    case v1::BufferSpec::kPolynomial:
    case v1::BufferSpec::DISCOUNT_NOT_SET:
      break;
  }
  const double base = 1 + static_cast<double>(staleness);
  const double exponent = buffer.polynomial().exponent();
  // The paper's form by operations that IEEE 754 rounds in one way everywhere.
  if (exponent == 0.5) return 1 / std::sqrt(base);
  if (exponent == 1) return 1 / base;
  return std::max(std::pow(base, -exponent),
                  std::numeric_limits<double>::min());
}

bool UsesWeights(const v1::AggregationSpec& aggregation) {
  switch (aggregation.rule_case()) {
    case v1::AggregationSpec::RULE_NOT_SET:
    case v1::AggregationSpec::kFedavg:
      return !aggregation.fedavg().uniform();
    case v1::AggregationSpec::kMedian:
      return aggregation.median().weighted();
    case v1::AggregationSpec::kGeometricMedian:
      return aggregation.geometric_median().weighted();
    case v1::AggregationSpec::kMultiKrum:
      return aggregation.multi_krum().convention() ==
             v1::AggregationSpec::FLOWER;
    case v1::AggregationSpec::kTrimmedMean:
    case v1::AggregationSpec::kKrum:
    case v1::AggregationSpec::kBulyan:
    case v1::AggregationSpec::kCenteredClipping:
      return false;
  }
  return false;
}

}  // namespace koinon::aggregation
