#include "worker/train/batches.h"

#include <algorithm>
#include <numeric>

#include "base/random.h"

namespace koinon::worker {

Batches::Batches(const Dataset& data, size_t batch_size, const Shard& shard)
    : data_(data), batch_size_(batch_size), shard_(shard), order_(data.size()) {
  std::iota(order_.begin(), order_.end(), size_t{0});
  const size_t most = shard.Most(batch_size);
  inputs_.resize(most * data.example_size());
  if (data.target_size == 0) labels_.resize(most);
  targets_.resize(most * data.target_size);
}

void Batches::Shuffle(uint64_t seed) {
  std::iota(order_.begin(), order_.end(), size_t{0});
  Random random(seed);
  random.Shuffle(&order_);
  next_ = 0;
}

kernels::Batch Batches::Next() {
  whole_size_ = std::min(batch_size_, order_.size() - next_);
  const size_t first = next_ + shard_.Begin(whole_size_);
  const size_t size = shard_.End(whole_size_) - shard_.Begin(whole_size_);
  const size_t width = data_.example_size();
  const size_t target_width = data_.target_size;
  for (size_t i = 0; i < size; ++i) {
    const size_t example = order_[first + i];
    std::copy_n(data_.features.begin() + example * width, width,
                inputs_.begin() + i * width);
    if (target_width == 0) {
      labels_[i] = data_.labels[example];
    } else {
      std::copy_n(data_.targets.begin() + example * target_width, target_width,
                  targets_.begin() + i * target_width);
    }
  }
  next_ += whole_size_;
  kernels::Batch batch;
  batch.size = size;
  batch.inputs = absl::MakeConstSpan(inputs_).subspan(0, size * width);
  if (target_width == 0) {
    batch.labels = absl::MakeConstSpan(labels_).subspan(0, size);
  } else {
    batch.targets =
        absl::MakeConstSpan(targets_).subspan(0, size * target_width);
  }
  return batch;
}

}  // namespace koinon::worker
