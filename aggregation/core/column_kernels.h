#ifndef KOINON_AGGREGATION_CORE_COLUMN_KERNELS_H_
#define KOINON_AGGREGATION_CORE_COLUMN_KERNELS_H_

#include <cstddef>
#include <vector>

#include "aggregation/core/columns.h"
#include "aggregation/core/instruction_set.h"

namespace koinon::aggregation {

// Columns side by side: the innermost work of ReduceColumns.
struct ColumnBlock {
  const float* const* rows = nullptr;  // [m][count]
  size_t count = 0;
  float* out = nullptr;  // [count]
  // The least and the greatest value that the rule kept. [count]; both null:
  // not wanted.
  float* low = nullptr;
  float* high = nullptr;
};

// A rule made ready for columns of m values. Immutable; thread-safe.
class ColumnKernel {
 public:
  // `rule` is inside its ranges; `set` is not kBest.
  ColumnKernel(const ColumnRule& rule, size_t m, InstructionSet set);

  // What one thread needs while it works on a block.
  struct Workspace {
    std::vector<float> column;
  };

  // False if a value is not finite; `out` is then undefined.
  bool Reduce(const ColumnBlock& block, Workspace* workspace) const;

 private:
  ColumnRule rule_;
  const size_t m_;
};

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_CORE_COLUMN_KERNELS_H_
