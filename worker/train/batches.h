#ifndef KOINON_WORKER_TRAIN_BATCHES_H_
#define KOINON_WORKER_TRAIN_BATCHES_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/network.h"
#include "worker/data/dataset.h"

namespace koinon::worker {

// Hands out a dataset's examples in batches, each once in a pass; the last
// batch of a pass may be smaller. Copies examples to one place in memory and
// allocates nothing after construction. The dataset must outlive it. Not
// thread-safe.
class Batches {
 public:
  // In the dataset's own order. Requires batch_size > 0.
  Batches(const Dataset& data, size_t batch_size);

  // Starts a new pass, in an order drawn from `seed` alone.
  void Shuffle(uint64_t seed);
  // The next batch, valid until the following call; of size 0 after the last.
  kernels::Batch Next();

 private:
  const Dataset& data_;
  const size_t batch_size_;
  std::vector<size_t> order_;
  size_t next_ = 0;
  std::vector<float> inputs_;
  std::vector<int32_t> labels_;
  std::vector<float> targets_;
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_TRAIN_BATCHES_H_
