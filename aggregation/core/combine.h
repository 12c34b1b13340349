#ifndef KOINON_AGGREGATION_CORE_COMBINE_H_
#define KOINON_AGGREGATION_CORE_COMBINE_H_

#include <cstddef>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "aggregation/core/aggregator.h"
#include "aggregation/core/instruction_set.h"
#include "aggregation/core/rows.h"
#include "aggregation/core/update_set.h"
#include "base/model_layout.h"
#include "base/thread_pool.h"

namespace koinon::aggregation {

// The weights of one weighted sum, made exact: scaled by a power of two so
// that neither sums nor products overflow, and rounded to kWeightBits
// significant bits. Example counts below 2^29 are not rounded at all; of others
// each is off by at most 2^-29 of itself, which moves a sum by less than a
// sixteenth of the last bit of the largest term. A weight below 2^-300 of the
// largest becomes 0: it could not move the sum.
struct ExactWeights {
  std::vector<double> weights;  // in the order of the rows
  double scale = 1;             // result = scale * sum of weights[i] * x[i]

  // A mean, which divides by the sum. weights: [n], n >= 1, finite, >= 0, at
  // least one > 0.
  static ExactWeights Of(absl::Span<const double> weights);
  // A sum as it stands: what the coefficients lack of 1 is the origin's.
  // coefficients: [n], n >= 1, finite, >= 0; all may be 0. Where they sum to
  // more than 1, an element of the result may be beyond fp32, and infinite.
  static ExactWeights Linear(absl::Span<const double> coefficients);
  // weights * scale: the coefficients that the result has.
  std::vector<double> Normalised() const;
};

// Writes the weighted sum of the rows to `out`, in one pass over the data: what
// every rule ends with that gives each update one weight.
//
// Rows of weight 0 are never read: a rule that selects one update costs one
// update's bandwidth. A single row of coefficient 1 is copied bit for bit, and
// of no rows with a weight the sum is +0.
//
// Each element is summed in double in the order of the rows, so the bytes
// depend on nothing but values and weights, on any number of threads and any
// instruction set. Memory: at most 2 MiB for each thread, and windows of 4 MiB
// of the sink.
//
// rows: [n] of layout.total_elements() values, one for each weight.
// Errors: FAILED_PRECONDITION for an instruction set that the processor lacks;
// the sink's; a source's, which blames the row's worker (Row::Blame); DATA_LOSS
// that blames it for a value that is not finite, for updates are checked on
// arrival. With several errors, the one that comes first in the parameters.
absl::Status CombineRows(const ModelLayout& layout, absl::Span<const Row> rows,
                         const ExactWeights& weights,
                         InstructionSet instruction_set, ThreadPool* pool,
                         UpdateSink* out);

// CombineRows over all updates of a set, on the fastest path.
absl::Status CombineUpdates(const UpdateSet& set, const ExactWeights& weights,
                            ThreadPool* pool, UpdateSink* out);

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_CORE_COMBINE_H_
