#ifndef KOINON_WORKER_COLLECTIVE_NODE_WINDOW_H_
#define KOINON_WORKER_COLLECTIVE_NODE_WINDOW_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "worker/collective/shared_flag.h"
#include "worker/collective/waiter.h"

namespace koinon::worker {

// What the leaders of several nodes (each one's node rank 0) do with a chunk
// between the sums inside their nodes and the copies out. A chunk goes through
// the calls in this order, several chunks at different stages at once, each in
// a slot of its own.
class LeaderExchange {
 public:
  virtual ~LeaderExchange() = default;

  // Begins with the chunk in `slot`: values, [n], times `scale` are this node's
  // sum, and become the sum over the nodes, in their order. Until Complete
  // nobody else may look at them, until Drain nobody may change them.
  virtual absl::Status Start(size_t slot, absl::Span<float> values,
                             float scale) = 0;
  virtual absl::Status Reduce(size_t slot) = 0;
  // Returns when the values are the sum.
  virtual absl::Status Complete(size_t slot) = 0;
  // Returns when they are not read any more.
  virtual absl::Status Drain(size_t slot) = 0;

  // Sends rank 0's bytes to the other leaders.
  virtual absl::Status Broadcast(absl::Span<char> bytes) = 0;
};

// Sums and copies between the ranks of one node, through memory that all of
// them map: each rank copies its values in chunk by chunk, sums one slice of
// each chunk over all the ranks in rank order, and copies the others' slices
// out. Chunks are in flight at the same time (a ring of slots), so that ranks
// seldom wait for each other. A rank that is alone on its node copies nothing:
// it leads, and exchanges its values where they are.
//
// Every rank makes the same calls with the same sizes. The bytes of a sum do
// not depend on timing, nor on how it is cut into chunks: each element is
// ((x0 + x1) + x2) + ..., rounded to float32 after every step, then likewise
// over the nodes.
//
// After a failure nothing but destruction is allowed. Used by one thread at a
// time. The memory, the waiter and the leaders must outlive it.
class NodeWindow {
 public:
  struct Shape {
    int ranks = 1;
    size_t chunk = 0;  // elements; a multiple of 16
    size_t depth = 0;  // slots: a power of two, at least MinDepth()
    bool leaders = false;
  };
  // Chunks between the one that is copied in and the one that is copied out.
  static size_t MinDepth(bool leaders) { return leaders ? 8 : 4; }
  static size_t SizeBytes(const Shape& shape);
  static size_t FlagBytes(const Shape& shape);

  // memory: SizeBytes(shape), aligned to 64 bytes, the first FlagBytes(shape)
  // of them zeros before the first rank uses it. `leaders`: on node rank 0 of
  // one of several nodes, else null.
  NodeWindow(const Shape& shape, int rank, char* memory, Waiter* waiter,
             LeaderExchange* leaders);

  // values become the sum over all ranks of `scale` (each rank's own) times
  // theirs. UNAVAILABLE as the waiter.
  absl::Status Sum(absl::Span<float> values, float scale);

  // bytes become those of rank 0 of the whole site.
  absl::Status Broadcast(absl::Span<char> bytes);

 private:
  // Chunk `index` of the call under way: where its values are and its number.
  struct Piece {
    absl::Span<float> values;
    uint32_t number = 0;
    size_t slot = 0;
  };
  Piece PieceOf(absl::Span<float> values, size_t index) const;
  // This rank's share of a chunk of n elements is [SliceBegin(rank, n),
  // SliceBegin(rank + 1, n)).
  size_t SliceBegin(int rank, size_t n) const;

  absl::Status AwaitAll(const SharedFlag* flags, uint32_t target);
  absl::Status AwaitTotal(uint32_t target);
  absl::Status AwaitFree(const Piece& piece);
  absl::Status CopyIn(const Piece& piece, float scale);
  absl::Status Reduce(const Piece& piece, float scale);
  absl::Status Lead(absl::Span<float> values, size_t step, size_t chunks);
  absl::Status SumAlone(absl::Span<float> values, float scale);
  absl::Status CopyOut(const Piece& piece);

  float* Input(size_t slot, int rank) const;
  // The node's; once the leaders are done with it, the site's.
  float* Total(size_t slot) const { return Input(slot, shape_.ranks); }

  const Shape shape_;
  const int rank_;
  Waiter* const waiter_;
  LeaderExchange* const leaders_;
  // In the window; the first three [ranks]. A chunk's number + 1: done with it.
  SharedFlag* const copied_in_;
  SharedFlag* const reduced_;
  SharedFlag* const copied_out_;
  SharedFlag* const total_;  // the leader's
  float* const slots_;
  uint32_t next_ = 0;  // number of the next chunk
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_COLLECTIVE_NODE_WINDOW_H_
