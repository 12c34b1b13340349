#include "aggregation/core/column_kernels.h"

#include <algorithm>
#include <cmath>

#include "aggregation/core/columns.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace koinon::aggregation {
namespace {

// From so many rows on, bisection is faster than a network (columns_benchmark):
// it has to find one value for a median, and two for a trimmed mean.
constexpr size_t kBisectForMedian = 513;
constexpr size_t kBisectForTrimmedMean = 1537;

std::vector<double> SummableWeights(const std::vector<double>& weights) {
  // By a power of two, so that their sum does not overflow.
  const int exponent =
      std::ilogb(*std::max_element(weights.begin(), weights.end()));
  std::vector<double> summable = weights;
  for (double& weight : summable) weight = std::scalbn(weight, -exponent);
  return summable;
}

}  // namespace

ColumnProgram ColumnProgram::For(const ColumnRule& rule, size_t m) {
  ColumnProgram program;
  program.kind = rule.kind;
  program.m = m;
  program.first = (m - 1) / 2;
  program.kept = m % 2 == 0 ? 2 : 1;
  switch (rule.kind) {
    case ColumnRule::kMedian:
      program.bisect = m >= kBisectForMedian;
      break;
    case ColumnRule::kTrimmedMean:
      program.first = rule.trim;
      program.kept = m - 2 * rule.trim;
      program.bisect = m >= kBisectForTrimmedMean;
      break;
    case ColumnRule::kMeanAround:
      program.keep = rule.keep;
      program.merges = OddEvenMergeSort(m, kSortedRun);
      return program;
    case ColumnRule::kWeightedMedian:
      program.weights = SummableWeights(rule.weights);
      // In the order of the rows, as all sums of weights.
      for (double weight : program.weights) program.half += weight;
      program.half /= 2;
      program.bisect = true;
      break;
  }
  if (!program.bisect) {
    program.merges = PruneToSet(OddEvenMergeSort(m, kSortedRun), m,
                                program.first, program.kept);
  }
  return program;
}

size_t ColumnProgram::ScratchFloats() const {
  // The group's values, and a copy of the rows' last, incomplete group.
  return 2 * m * kColumnGroup + kColumnGroup;
}

ColumnKernel ColumnKernelFor(InstructionSet set) {
#if defined(__x86_64__)
  if (set == InstructionSet::kAvx512) return ReduceColumnsAvx512;
  if (set == InstructionSet::kAvx2) return ReduceColumnsAvx2;
#endif
  (void)set;
  return ReduceColumnsPortable;
}

void FinishColumnKernels() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

}  // namespace koinon::aggregation
