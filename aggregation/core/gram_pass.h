#ifndef KOINON_AGGREGATION_CORE_GRAM_PASS_H_
#define KOINON_AGGREGATION_CORE_GRAM_PASS_H_

#include <algorithm>
#include <cstddef>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "aggregation/core/instruction_set.h"
#include "aggregation/core/rows.h"
#include "base/model_layout.h"
#include "base/thread_pool.h"

namespace koinon::aggregation {

// Dot products of points less one of them, the centre.
struct CentredProducts {
  size_t points = 0;
  size_t centre = 0;
  std::vector<double> values;  // [points][points], symmetric

  double At(size_t i, size_t k) const { return values[i * points + k]; }
  double SquaredDistance(size_t i, size_t k) const {
    return std::max(0.0, At(i, i) + At(k, k) - 2 * At(i, k));
  }
  void Set(size_t i, size_t k, double product) {
    values[i * points + k] = values[k * points + i] = product;
  }
};

// What a pass needs besides the points; borrowed.
struct GramOptions {
  const ModelLayout& layout;
  InstructionSet instruction_set = InstructionSet::kPortable;  // not kBest
  ThreadPool* pool = nullptr;
};

// One blocked pass. points: at least one, of layout.total_elements() values;
// one whose `values` is null is the origin. Memory for each thread: a block of
// kGramBlock columns of all points and, for sources that copy, two pieces of 16
// KiB of each; and a few matrices of products.
//
// Errors: a source's, which blames the point's worker; DATA_LOSS that blames it
// for a value that is not finite.
absl::StatusOr<CentredProducts> ComputeCentredProducts(
    const GramOptions& options, absl::Span<const Row> points, size_t centre);

// The same on up to kGramBlock columns, evenly spread. The same errors.
absl::StatusOr<CentredProducts> SampleCentredProducts(
    const GramOptions& options, absl::Span<const Row> points, size_t centre);

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_CORE_GRAM_PASS_H_
