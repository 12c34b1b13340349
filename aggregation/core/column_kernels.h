#ifndef KOINON_AGGREGATION_CORE_COLUMN_KERNELS_H_
#define KOINON_AGGREGATION_CORE_COLUMN_KERNELS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "aggregation/core/columns.h"
#include "aggregation/core/instruction_set.h"
#include "aggregation/core/selection_network.h"

namespace koinon::aggregation {

// The innermost work of ReduceColumns: columns side by side in the lanes of
// vector registers.
//
// With few rows, a pruned sorting network runs over groups of columns that stay
// in L1: runs of up to kSortedRun rows are sorted in registers as they are
// read, and a list of comparators merges the runs as far as the rule needs it.
// With many, the values at the wanted ranks are found by bisection: each pass
// over a group counts in every column how many values lie above a guess.

struct ColumnBlock {
  const float* const* rows = nullptr;  // [m][count]
  size_t count = 0;
  float* out = nullptr;  // [count]
  // The least and the greatest value that the rule kept. [count]; both null:
  // not wanted.
  float* low = nullptr;
  float* high = nullptr;
};

// Columns that are worked on together. A multiple of every lane count.
inline constexpr size_t kColumnGroup = 32;
// Rows sorted in registers.
inline constexpr size_t kSortedRun = 16;

// A rule made ready for columns of m values. Immutable.
struct ColumnProgram {
  ColumnRule::Kind kind = ColumnRule::kMedian;
  size_t m = 0;
  // Ranks that are kept; kMeanAround: those of the one or two middles.
  size_t first = 0;
  size_t kept = 0;
  size_t keep = 0;              // kMeanAround
  std::vector<double> weights;  // kWeightedMedian: [m], summable
  double half = 0;              // of the weights' sum
  bool bisect = false;
  std::vector<Comparator> merges;  // unless bisect

  // `rule` is inside its ranges.
  static ColumnProgram For(const ColumnRule& rule, size_t m);
  // Floats that a kernel needs while it works on a block.
  size_t ScratchFloats() const;
};

// scratch: [program.ScratchFloats()], aligned to 64 bytes. False if a value is
// not finite; `out` is then undefined. The same bytes by each of them.
using ColumnKernel = bool (*)(const ColumnProgram& program,
                              const ColumnBlock& block, float* scratch);
bool ReduceColumnsPortable(const ColumnProgram& program,
                           const ColumnBlock& block, float* scratch);
#if defined(__x86_64__)
bool ReduceColumnsAvx2(const ColumnProgram& program, const ColumnBlock& block,
                       float* scratch);
bool ReduceColumnsAvx512(const ColumnProgram& program, const ColumnBlock& block,
                         float* scratch);
#endif

// Of a set that this processor has; not kBest.
ColumnKernel ColumnKernelFor(InstructionSet set);

// Makes what this thread's kernels wrote to `out` visible to other threads,
// which a mutex alone does not: they use streaming stores.
void FinishColumnKernels();

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_CORE_COLUMN_KERNELS_H_
