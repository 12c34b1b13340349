#ifndef KOINON_AGGREGATION_CORE_FOLD_H_
#define KOINON_AGGREGATION_CORE_FOLD_H_

#include <cstddef>

#include "aggregation/core/instruction_set.h"

namespace koinon::aggregation {

// The innermost loop of every rule that ends in a weighted sum: a few rows of
// fp32 values folded into a running sum in double, row after row,
//
//   sum[j] = (((sum[j] + w[0] x[0][j]) + w[1] x[1][j]) + ...)
//
// Weights have at most kWeightBits significant bits, so that each product with
// an fp32 value (24 bits) is exact in double (53 bits). A fused multiply-add
// and a multiplication followed by an addition then round the same way: every
// path below, on every processor and with any -ffp-contract, gives the same
// bytes.
inline constexpr int kWeightBits = 29;
// More streams than this outrun the processor's prefetching.
inline constexpr size_t kMaxFoldRows = 16;

struct FoldBlock {
  const float* const* rows;   // [n][count]
  const float* const* ahead;  // [n]: ahead[i] + j is fetched early, never read
  const double* weights;      // [n], at most kWeightBits significant bits
  size_t n = 0;               // [1, kMaxFoldRows]
  size_t count = 0;
  bool first = false;     // start from zero, not from `sum`
  double* sum = nullptr;  // [count]; not touched if first and last
  // Last rows: out[j] = fp32(sum[j] * scale), and `sum` is left as it was.
  float* out = nullptr;  // [count], 4-byte aligned; null: not the last rows
  double scale = 1;
};

// False if a value of `out` is not finite: a row's value was not.
using Fold = bool (*)(const FoldBlock& block);

// Makes what this thread's folds wrote to `out` visible to other threads, which
// a mutex alone does not: folds use streaming stores.
void FinishFolds();

// The path for one of SupportedInstructionSets().
Fold FoldOf(InstructionSet set);

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_CORE_FOLD_H_
