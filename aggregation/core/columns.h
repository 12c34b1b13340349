#ifndef KOINON_AGGREGATION_CORE_COLUMNS_H_
#define KOINON_AGGREGATION_CORE_COLUMNS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "aggregation/core/aggregator.h"
#include "aggregation/core/instruction_set.h"
#include "aggregation/core/rows.h"
#include "base/model_layout.h"
#include "base/thread_pool.h"

namespace koinon::aggregation {

// What becomes of each column, the m values that a coordinate has in m rows.
// Values are compared in the total order of their bits' magnitude and sign, in
// which -0 comes before 0; sums are in double; results are rounded once, to
// fp32.
struct ColumnRule {
  enum Kind {
    kMedian,          // middle; even m: the mean of the two middles
    kTrimmedMean,     // mean of sorted[trim .. m - trim - 1]
    kMeanAround,      // mean of the `keep` values nearest to the median, the
                      // smaller value first if two are equally near (Bulyan)
    kWeightedMedian,  // lower: smallest v with the weights of the values <= v
                      // at least half of all
  };
  Kind kind = kMedian;
  size_t trim = 0;              // 2 trim < m
  size_t keep = 0;              // [1, m]
  std::vector<double> weights;  // [m], finite, >= 0, at least one > 0
};

// The m rows that columns are made of: each a linear combination of the input
// rows. Identity where `mixing` is empty.
struct ColumnInput {
  Rows rows;  // n
  // [m][n]; empty: m = n, the rows themselves. A row of it with a single 1 is
  // that row, bit for bit. Others are summed in double, in the order of the
  // rows, and rounded to fp32.
  std::vector<std::vector<double>> mixing;

  size_t size() const { return mixing.empty() ? rows.size() : mixing.size(); }
};

// In which part of a sample of the coordinates a row's value was left out.
struct OutsideShares {
  int64_t coordinates = 0;     // of the sample, at most kSampledCoordinates
  std::vector<double> shares;  // [m]
};
// Enough for a share to be off by less than a hundredth (one standard error);
// more would cost as much as the rule itself.
constexpr int64_t kSampledCoordinates = 1 << 12;

// Writes the rule's result to `out` in one pass over the rows. `shares` (may be
// null) is measured on a fixed, evenly spread sample of the coordinates; a
// median leaves out all that lies strictly below or above its one or two
// middles; a value equal to a kept one counts as kept.
//
// The same bytes for any number of threads and any instruction set. Memory:
// blocks. Errors: the sink's; a source's, which blames the worker; DATA_LOSS
// that blames it for a value that is not finite; INVALID_ARGUMENT for a rule
// outside its ranges above.
absl::Status ReduceColumns(const ModelLayout& layout, const ColumnInput& input,
                           const ColumnRule& rule,
                           InstructionSet instruction_set, ThreadPool* pool,
                           UpdateSink* out, OutsideShares* shares);

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_CORE_COLUMNS_H_
