#ifndef KOINON_WORKER_TRAIN_BATCHES_H_
#define KOINON_WORKER_TRAIN_BATCHES_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/network.h"
#include "worker/data/dataset.h"
#include "worker/train/permutation.h"

namespace koinon::worker {

// One member's part of what several do together. The default is all of it.
struct Shard {
  size_t index = 0;  // < count
  size_t count = 1;

  // Of `size` things, those from Begin(size) on are the member's; they end
  // where the next member's begin. Parts differ by at most one.
  size_t Begin(size_t size) const { return size * index / count; }
  size_t End(size_t size) const { return size * (index + 1) / count; }
  // The largest part of up to `size` things.
  size_t Most(size_t size) const { return (size + count - 1) / count; }
};

// Hands out a dataset's examples in batches, each once in a pass; the last
// batch of a pass may be smaller. Copies examples to one place in memory and
// allocates nothing after construction; of sequences it keeps no list, however
// many there are. While one batch of sequences is worked on, the kernel is told
// which the next will be, so that a file's are there when they are copied. The
// dataset must outlive it. Not thread-safe.
//
// With a shard, batches are cut as without, and this member's is its part of
// each: members of one seed hand out disjoint parts of the same batches, as
// many batches each.
class Batches {
 public:
  // In the dataset's own order. Requires batch_size > 0, and a shard of at
  // least one member.
  Batches(const Dataset& data, size_t batch_size, const Shard& shard = {});

  // Starts a new pass, in an order drawn from `seed` alone.
  void Shuffle(uint64_t seed);
  // The next batch, valid until the following call; of size 0 after the last,
  // and where the batch has too few examples for every member. DATA_LOSS if
  // the dataset's file was cut short.
  absl::StatusOr<kernels::Batch> Next();
  // Goes on as after `count` calls of Next, without copying anything.
  void Skip(size_t count);
  // Examples of the latest batch, over all members; 0 after the last.
  size_t whole_size() const { return whole_size_; }

 private:
  size_t ExampleAt(size_t place) const;
  void CopyExample(size_t example, size_t row);
  void AnnounceNext() const;

  const Dataset& data_;
  const size_t batch_size_;
  const Shard shard_;
  // The order of examples in memory, and of sequences; neither: their own.
  std::vector<size_t> order_;
  std::optional<Permutation> permutation_;
  size_t next_ = 0;
  size_t whole_size_ = 0;
  std::vector<float> inputs_;
  std::vector<int32_t> labels_;
  std::vector<float> targets_;
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_TRAIN_BATCHES_H_
