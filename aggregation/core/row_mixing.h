#ifndef KOINON_AGGREGATION_CORE_ROW_MIXING_H_
#define KOINON_AGGREGATION_CORE_ROW_MIXING_H_

#include <cstddef>
#include <vector>

#include "aggregation/core/fold.h"
#include "aggregation/core/instruction_set.h"

namespace koinon::aggregation {

// Linear combinations of rows, tile by tile: m rows out of n. Immutable;
// thread-safe.
//
// A row of the matrix with a single 1 is passed on as it is. Any other is the
// sum, in double and in the order of the rows, of the rows with a coefficient
// other than 0, rounded to fp32. Coefficients are taken relative to their row's
// largest, to 29 bits, so that products are exact and no processor rounds them
// in another way (fold.h); equal coefficients are kept exactly.
class RowMixing {
 public:
  // matrix: [m][n], finite; empty: the rows themselves.
  // `set`: of those that this processor has; not kBest.
  RowMixing(const std::vector<std::vector<double>>& matrix, size_t n,
            InstructionSet set);

  // How many rows of the m have to be computed.
  size_t mixed_rows() const { return mixed_rows_; }

  // rows: [n][count]. mixed: [mixed_rows()][stride], stride >= count. Sets
  // `out` [m] to the mixed rows, which lie in `rows` or in `mixed`. False if a
  // mixed value is not finite.
  bool Mix(const std::vector<const float*>& rows, size_t count, size_t stride,
           float* mixed, std::vector<const float*>* out) const;

 private:
  struct Combination {
    bool copy = false;  // rows[0], bit for bit
    double scale = 0;
    std::vector<size_t> rows;
    std::vector<double> weights;  // relative to the scale, kWeightBits long
  };

  static Combination MakeCombination(const std::vector<double>& row);
  // Columns [begin, begin + count) before scaling.
  void Sum(const Combination& combination,
           const std::vector<const float*>& rows, size_t begin, size_t count,
           double* sum) const;

  const Fold fold_;
  size_t mixed_rows_ = 0;
  std::vector<Combination> combinations_;  // [m]
};

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_CORE_ROW_MIXING_H_
