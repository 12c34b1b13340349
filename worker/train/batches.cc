#include "worker/train/batches.h"

#include <algorithm>
#include <numeric>

#include "base/random.h"
#include "base/status_macros.h"

namespace koinon::worker {

Batches::Batches(const Dataset& data, size_t batch_size, const Shard& shard)
    : data_(data), batch_size_(batch_size), shard_(shard) {
  const size_t most = shard.Most(batch_size);
  inputs_.resize(most * data.example_size());
  if (data.target_size == 0) labels_.resize(most * data.positions());
  targets_.resize(most * data.target_size);
}

void Batches::Shuffle(uint64_t seed) {
  next_ = 0;
  if (data_.empty()) return;
  if (data_.is_sequences()) {
    permutation_.emplace(seed, data_.size());
    return;
  }
  order_.resize(data_.size());
  std::iota(order_.begin(), order_.end(), size_t{0});
  Random random(seed);
  random.Shuffle(&order_);
}

void Batches::Skip(size_t count) {
  const size_t left = data_.size() - next_;
  next_ += count > left / batch_size_ ? left : count * batch_size_;
}

size_t Batches::ExampleAt(size_t place) const {
  if (permutation_.has_value()) return permutation_->At(place);
  return order_.empty() ? place : order_[place];
}

void Batches::CopyExample(size_t example, size_t row) {
  const size_t width = data_.example_size();
  const size_t target_width = data_.target_size;
  if (data_.is_sequences()) {
    data_.windows.Copy(example,
                       absl::MakeSpan(inputs_).subspan(row * width, width),
                       absl::MakeSpan(labels_).subspan(row * width, width));
    return;
  }
  std::copy_n(data_.features.begin() + example * width, width,
              inputs_.begin() + row * width);
  if (target_width == 0) {
    labels_[row] = data_.labels[example];
  } else {
    std::copy_n(data_.targets.begin() + example * target_width, target_width,
                targets_.begin() + row * target_width);
  }
}

void Batches::AnnounceNext() const {
  const size_t whole = std::min(batch_size_, data_.size() - next_);
  for (size_t i = shard_.Begin(whole); i < shard_.End(whole); ++i) {
    data_.windows.WillCopy(ExampleAt(next_ + i));
  }
}

absl::StatusOr<kernels::Batch> Batches::Next() {
  if (data_.is_sequences()) {
    ABSL_RETURN_IF_ERROR(data_.windows.tokens->Check());
  }
  whole_size_ = std::min(batch_size_, data_.size() - next_);
  const size_t first = next_ + shard_.Begin(whole_size_);
  kernels::Batch batch;
  batch.size = shard_.End(whole_size_) - shard_.Begin(whole_size_);
  for (size_t i = 0; i < batch.size; ++i) CopyExample(ExampleAt(first + i), i);
  next_ += whole_size_;
  if (data_.is_sequences()) AnnounceNext();
  batch.inputs =
      absl::MakeConstSpan(inputs_).first(batch.size * data_.example_size());
  if (data_.target_size == 0) {
    batch.labels =
        absl::MakeConstSpan(labels_).first(batch.size * data_.positions());
  } else {
    batch.targets =
        absl::MakeConstSpan(targets_).first(batch.size * data_.target_size);
  }
  return batch;
}

}  // namespace koinon::worker
