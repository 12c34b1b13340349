#ifndef KOINON_AGGREGATION_CORE_GRAM_H_
#define KOINON_AGGREGATION_CORE_GRAM_H_

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

// All that rules which depend on distances need to know about n updates: the
// dot products of the points less a common centre. Points are, in this order,
// the n updates; the origin (the update that changes nothing); and, if there is
// one, the rule's previous aggregate.
//
// Distances without centring are wrong: |x|^2 + |y|^2 - 2 x.y loses all digits
// that x and y share (ALGORITHMS, section 0.3).
struct Gram {
  size_t n = 0;
  bool has_previous = false;
  std::vector<double> products;  // [points][points], symmetric, finite

  size_t points() const { return n + 1 + (has_previous ? 1 : 0); }
  size_t origin() const { return n; }
  size_t previous() const { return n + 1; }  // requires has_previous
  double At(size_t i, size_t j) const { return products[i * points() + j]; }
  // |p_i - p_j|^2, >= 0; exactly 0 for equal points.
  double SquaredDistance(size_t i, size_t j) const {
    return std::max(0.0, At(i, i) + At(j, j) - 2 * At(i, j));
  }
};

// One blocked pass over the updates, around the point that a sample of the
// columns shows to be in their midst. Another one, at most two, if that point
// turns out to be far from most of them (an attacker's). And one over those
// points that lie close together and far from the centre, which differences of
// products would blur.
//
// updates: n >= 1 rows of layout.total_elements() values; previous: nullptr or
// one more. Products are summed in fp32 over blocks of fixed size and in double
// across them, in a fixed order: the same bits for any number of threads and
// any instruction set. Values of any finite magnitude neither overflow nor
// underflow, for a block of a row is scaled by its own power of two where need
// be.
//
// The relative error of a squared distance is below 1e-6 as a rule, and below
// 4e-5 where all roundings go the same way (rows of one constant each). Points
// closer to each other than 1e-4 of their distance to the centre may count as
// equal.
//
// Errors: FAILED_PRECONDITION for an instruction set that the processor lacks;
// a source's, which blames the worker (Row::Blame); DATA_LOSS that blames it
// for a value that is not finite. Memory: blocks.
absl::StatusOr<Gram> ComputeGram(const ModelLayout& layout,
                                 absl::Span<const Row> updates,
                                 const UpdateSource* previous,
                                 InstructionSet instruction_set,
                                 ThreadPool* pool);

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_CORE_GRAM_H_
