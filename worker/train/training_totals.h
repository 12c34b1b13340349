#ifndef KOINON_WORKER_TRAIN_TRAINING_TOTALS_H_
#define KOINON_WORKER_TRAIN_TRAINING_TOTALS_H_

#include <cstddef>
#include <cstdint>

#include "kernels/network.h"

namespace koinon::worker {

// Sums of what batches measured; those of several members of a site add up. A
// value.
struct TrainingTotals {
  double loss = 0;  // times examples
  int64_t correct = 0;
  int64_t labels = 0;  // examples times the positions that have an output
  int64_t examples = 0;

  // `positions`: ModelGraph::output_positions().
  void Add(const kernels::BatchMetrics& batch, size_t size, int64_t positions) {
    loss += batch.loss * static_cast<double>(size);
    correct += batch.correct;
    labels += static_cast<int64_t>(size) * positions;
    examples += static_cast<int64_t>(size);
  }
  void Add(const TrainingTotals& more) {
    loss += more.loss;
    correct += more.correct;
    labels += more.labels;
    examples += more.examples;
  }
  // Zero of nothing.
  double MeanLoss() const {
    return examples == 0 ? 0 : loss / static_cast<double>(examples);
  }
  double Accuracy() const {
    return labels == 0
               ? 0
               : static_cast<double>(correct) / static_cast<double>(labels);
  }
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_TRAIN_TRAINING_TOTALS_H_
