#ifndef KOINON_AGGREGATION_CORE_ROW_MIXING_H_
#define KOINON_AGGREGATION_CORE_ROW_MIXING_H_

#include <cstddef>
#include <vector>

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
  RowMixing(const std::vector<std::vector<double>>& matrix, size_t n);

  // How many rows of the m have to be computed.
  size_t mixed_rows() const { return mixed_rows_; }

  // rows: [n][count]. mixed: [mixed_rows()][stride], stride >= count. Sets
  // `out` [m] to the mixed rows, which lie in `rows` or in `mixed`. False if a
  // mixed value is not finite.
  bool Mix(const std::vector<const float*>& rows, size_t count, size_t stride,
           float* mixed, std::vector<const float*>* out) const;

 private:
  struct Term {
    size_t row;
    double coefficient;  // relative to the scale, at most 29 bits
  };
  struct Combination {
    bool copy = false;  // terms[0].row, bit for bit
    double scale = 0;
    std::vector<Term> terms;
  };

  static Combination MakeCombination(const std::vector<double>& row);

  size_t mixed_rows_ = 0;
  std::vector<Combination> combinations_;  // [m]
};

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_CORE_ROW_MIXING_H_
