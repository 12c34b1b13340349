#include "aggregation/core/column_kernels.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

namespace koinon::aggregation {
namespace {

// An int32 that orders as the value does, -0 before 0.
int32_t Key(float x) {
  const auto bits = std::bit_cast<int32_t>(x);
  return bits ^ ((bits >> 31) & 0x7fffffff);
}

struct Kept {
  size_t first, count;  // of the sorted column
};

Kept KeptOf(const ColumnRule& rule, const std::vector<float>& sorted) {
  const size_t m = sorted.size();
  if (rule.kind == ColumnRule::kTrimmedMean) {
    return {rule.trim, m - 2 * rule.trim};
  }
  const Kept middles = {(m - 1) / 2, m % 2 == 0 ? size_t{2} : size_t{1}};
  if (rule.kind == ColumnRule::kMedian) return middles;
  const double twice = double{sorted[middles.first]} + sorted[m / 2];
  size_t shift = 0;
  while (shift + rule.keep < m &&
         double{sorted[shift]} + sorted[shift + rule.keep] < twice) {
    ++shift;
  }
  return {shift, rule.keep};
}

float WeightedMedian(const std::vector<double>& weights,
                     const std::vector<float>& column,
                     const std::vector<float>& sorted) {
  double half = 0;
  for (double weight : weights) half += weight;
  half /= 2;
  for (float value : sorted) {
    double sum = 0;
    for (size_t i = 0; i < column.size(); ++i) {
      if (Key(column[i]) <= Key(value)) sum += weights[i];
    }
    if (sum >= half) return value;
  }
  return sorted.back();
}

}  // namespace

ColumnKernel::ColumnKernel(const ColumnRule& rule, size_t m, InstructionSet)
    : rule_(rule), m_(m) {
  if (rule_.kind != ColumnRule::kWeightedMedian) return;
  // By a power of two, so that their sum does not overflow.
  const int exponent =
      std::ilogb(*std::max_element(rule_.weights.begin(), rule_.weights.end()));
  for (double& w : rule_.weights) w = std::scalbn(w, -exponent);
}

bool ColumnKernel::Reduce(const ColumnBlock& block,
                          Workspace* workspace) const {
  std::vector<float>& column = workspace->column;
  column.resize(m_);
  std::vector<float> sorted;
  for (size_t j = 0; j < block.count; ++j) {
    for (size_t i = 0; i < m_; ++i) {
      column[i] = block.rows[i][j];
      if (!std::isfinite(column[i])) return false;
    }
    sorted = column;
    std::sort(sorted.begin(), sorted.end(),
              [](float a, float b) { return Key(a) < Key(b); });
    float low, high;
    if (rule_.kind == ColumnRule::kWeightedMedian) {
      low = high = block.out[j] = WeightedMedian(rule_.weights, column, sorted);
    } else {
      const Kept kept = KeptOf(rule_, sorted);
      double sum = -0.0;
      for (size_t i = 0; i < kept.count; ++i) sum += sorted[kept.first + i];
      block.out[j] = static_cast<float>(sum / static_cast<double>(kept.count));
      low = sorted[kept.first];
      high = sorted[kept.first + kept.count - 1];
    }
    if (block.low != nullptr) {
      block.low[j] = low;
      block.high[j] = high;
    }
  }
  return true;
}

}  // namespace koinon::aggregation
