#include "aggregation/core/row_mixing.h"

#include <algorithm>
#include <cmath>

namespace koinon::aggregation {
namespace {

// Columns whose sums stay in L1.
constexpr size_t kColumns = 1024;

double RoundToWeightBits(double x) {
  int exponent;
  const double fraction = std::frexp(x, &exponent);
  return std::ldexp(std::nearbyint(std::ldexp(fraction, kWeightBits)),
                    exponent - kWeightBits);
}

}  // namespace

RowMixing::RowMixing(const std::vector<std::vector<double>>& matrix, size_t n,
                     InstructionSet set)
    : fold_(FoldOf(set)) {
  for (const std::vector<double>& row : matrix) {
    combinations_.push_back(MakeCombination(row));
    if (!combinations_.back().copy) ++mixed_rows_;
  }
  for (size_t i = 0; matrix.empty() && i < n; ++i) {
    combinations_.push_back({true, 1, {i}, {1}});
  }
}

RowMixing::Combination RowMixing::MakeCombination(
    const std::vector<double>& row) {
  Combination combination;
  for (double x : row) {
    combination.scale = std::max(combination.scale, std::fabs(x));
  }
  for (size_t i = 0; i < row.size(); ++i) {
    if (row[i] == 0) continue;
    // Parts so small cannot move a sum in fp32, and would not be exact.
    const double part = row[i] / combination.scale;
    if (std::fabs(part) < 0x1p-300) continue;
    combination.rows.push_back(i);
    combination.weights.push_back(RoundToWeightBits(part));
  }
  combination.copy = combination.scale == 1 && combination.rows.size() == 1 &&
                     combination.weights[0] == 1;
  return combination;
}

void RowMixing::Sum(const Combination& combination,
                    const std::vector<const float*>& rows, size_t begin,
                    size_t count, double* sum) const {
  std::fill_n(sum, count, 0.0);
  for (size_t first = 0; first < combination.rows.size();
       first += kMaxFoldRows) {
    const float* from[kMaxFoldRows];
    const float* ahead[kMaxFoldRows];
    FoldBlock block;
    block.n = std::min(kMaxFoldRows, combination.rows.size() - first);
    for (size_t i = 0; i < block.n; ++i) {
      from[i] = rows[combination.rows[first + i]] + begin;
      ahead[i] = from[i] + count;
    }
    block.rows = from;
    block.ahead = ahead;
    block.weights = combination.weights.data() + first;
    block.count = count;
    block.first = first == 0;
    block.sum = sum;
    fold_(block);
  }
}

bool RowMixing::Mix(const std::vector<const float*>& rows, size_t count,
                    size_t stride, float* mixed,
                    std::vector<const float*>* out) const {
  double not_finite = 0;  // x - x is 0 for a finite x, else NaN
  for (size_t i = 0; i < combinations_.size(); ++i) {
    const Combination& combination = combinations_[i];
    if (combination.copy) {
      (*out)[i] = rows[combination.rows[0]];
      continue;
    }
    double sum[kColumns];
    for (size_t j = 0; j < count; j += kColumns) {
      const size_t columns = std::min(kColumns, count - j);
      Sum(combination, rows, j, columns, sum);
      for (size_t c = 0; c < columns; ++c) {
        mixed[j + c] = static_cast<float>(sum[c] * combination.scale);
        not_finite += mixed[j + c] - mixed[j + c];
      }
    }
    (*out)[i] = mixed;
    mixed += stride;
  }
  return not_finite == 0;
}

}  // namespace koinon::aggregation
