#ifndef KOINON_WORKER_COLLECTIVE_BARE_ALLREDUCE_H_
#define KOINON_WORKER_COLLECTIVE_BARE_ALLREDUCE_H_

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace koinon::worker {

// Sums over MPI_COMM_WORLD by calls of MPI_Allreduce alone: what
// Communicator::AllReduce is measured against. Not for training. Requires an
// MpiSession and values.size() < 2^31.

// One call. out: [n], apart from in.
absl::Status BareAllReduce(absl::Span<const float> in, absl::Span<float> out);
// One call, in place.
absl::Status BareAllReduceInPlace(absl::Span<float> values);
// A call for each `chunk` elements, in place.
absl::Status BareAllReduceInChunks(absl::Span<float> values, size_t chunk);

}  // namespace koinon::worker

#endif  // KOINON_WORKER_COLLECTIVE_BARE_ALLREDUCE_H_
