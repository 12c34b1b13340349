#ifndef KOINON_WORKER_TRAIN_EVALUATION_H_
#define KOINON_WORKER_TRAIN_EVALUATION_H_

#include <atomic>
#include <cstddef>
#include <limits>

#include "absl/status/statusor.h"
#include "kernels/network.h"
#include "worker/data/dataset.h"
#include "worker/train/training_totals.h"

namespace koinon::worker {

// Measures a network on a dataset, in batches of `batch_size` (at most the
// network's), and on at most `max_batches` of them: spread evenly over the
// dataset where it has more, the same ones each time. CANCELLED soon after
// `stop` becomes true; INTERNAL if the loss is not finite; the dataset's and
// the network's errors. Requires max_batches > 0.
absl::StatusOr<TrainingTotals> EvaluateDataset(
    const Dataset& data, size_t batch_size, kernels::Network* network,
    const std::atomic<bool>& stop,
    size_t max_batches = std::numeric_limits<size_t>::max());

}  // namespace koinon::worker

#endif  // KOINON_WORKER_TRAIN_EVALUATION_H_
