#include "aggregation/core/row_mixing.h"

#include <algorithm>
#include <cmath>

#include "aggregation/core/fold.h"

namespace koinon::aggregation {
namespace {

// Columns whose sums stay in L1.
constexpr size_t kColumns = 256;

double RoundToWeightBits(double x) {
  int exponent;
  const double fraction = std::frexp(x, &exponent);
  return std::ldexp(std::nearbyint(std::ldexp(fraction, kWeightBits)),
                    exponent - kWeightBits);
}

}  // namespace

RowMixing::RowMixing(const std::vector<std::vector<double>>& matrix, size_t n) {
  for (const std::vector<double>& row : matrix) {
    combinations_.push_back(MakeCombination(row));
    if (!combinations_.back().copy) ++mixed_rows_;
  }
  for (size_t i = 0; matrix.empty() && i < n; ++i) {
    combinations_.push_back({true, 1, {{i, 1}}});
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
    combination.terms.push_back({i, RoundToWeightBits(part)});
  }
  combination.copy = combination.scale == 1 && combination.terms.size() == 1 &&
                     combination.terms[0].coefficient == 1;
  return combination;
}

bool RowMixing::Mix(const std::vector<const float*>& rows, size_t count,
                    size_t stride, float* mixed,
                    std::vector<const float*>* out) const {
  double not_finite = 0;  // x - x is 0 for a finite x, else NaN
  for (size_t i = 0; i < combinations_.size(); ++i) {
    const Combination& combination = combinations_[i];
    if (combination.copy) {
      (*out)[i] = rows[combination.terms[0].row];
      continue;
    }
    double sum[kColumns];
    for (size_t j = 0; j < count; j += kColumns) {
      const size_t columns = std::min(kColumns, count - j);
      std::fill_n(sum, columns, combination.terms.empty() ? 0.0 : -0.0);
      for (const Term& term : combination.terms) {
        const float* const row = rows[term.row] + j;
        for (size_t c = 0; c < columns; ++c) {
          sum[c] += term.coefficient * row[c];
        }
      }
      for (size_t c = 0; c < columns; ++c) {
        const auto value = static_cast<float>(sum[c] * combination.scale);
        mixed[j + c] = value;
        not_finite += value - value;
      }
    }
    (*out)[i] = mixed;
    mixed += stride;
  }
  return not_finite == 0;
}

}  // namespace koinon::aggregation
