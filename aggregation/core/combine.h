#ifndef KOINON_AGGREGATION_CORE_COMBINE_H_
#define KOINON_AGGREGATION_CORE_COMBINE_H_

#include <cstddef>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "aggregation/core/aggregator.h"
#include "aggregation/core/fold.h"
#include "aggregation/core/update_set.h"
#include "base/thread_pool.h"

namespace koinon::aggregation {

// The weights of one weighted mean, made exact: scaled by a power of two so
// that neither sums nor products overflow, and rounded to kWeightBits
// significant bits. Example counts below 2^29 are not rounded at all; of others
// each is off by at most 2^-29 of itself, which moves a mean by less than a
// sixteenth of the last bit of the largest term.
struct ExactWeights {
  std::vector<double> weights;  // in the order of the updates
  double scale = 1;             // mean = scale * sum of weights[i] * x[i]

  // weights: [n], n >= 1, finite, >= 0, at least one > 0.
  static ExactWeights Of(absl::Span<const double> weights);
  // weights * scale: sums to 1.
  std::vector<double> Normalised() const;
};

// Writes the weighted mean of the updates to `out`, in one pass over the data:
// what every rule ends with that gives each update one weight.
//
// Each element is summed in double in the set's canonical order, so the bytes
// depend on nothing but values and weights. Memory: at most 2 MiB for each
// thread, and windows of 4 MiB of the sink.
//
// Errors: the sink's; a source's, which blames the worker (BlamedWorker);
// DATA_LOSS that blames the worker for a value that is not finite, for updates
// are checked on arrival. With several errors, the one that comes first in the
// parameters.
absl::Status CombineUpdates(const UpdateSet& set, const ExactWeights& weights,
                            ThreadPool* pool, UpdateSink* out);

// As above, with one of FoldPaths() in place of the fastest.
absl::Status CombineUpdatesBy(Fold fold, const UpdateSet& set,
                              const ExactWeights& weights, ThreadPool* pool,
                              UpdateSink* out);

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_CORE_COMBINE_H_
