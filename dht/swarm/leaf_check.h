#ifndef KOINON_DHT_SWARM_LEAF_CHECK_H_
#define KOINON_DHT_SWARM_LEAF_CHECK_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/digest.h"
#include "dht/swarm/merkle.h"

namespace koinon::dht {

// Compares the leaves of one piece with their hashes, as they come. Not
// thread-safe.
class LeafCheck {
 public:
  // `leaves`: the hashes of all of the piece's (PieceMap::LeavesIn).
  LeafCheck(const PieceMap& map, uint32_t piece, std::vector<Digest> leaves);

  // The next whole leaves, in order. DATA_LOSS, naming the first leaf that is
  // not the piece's: then none of these counts as checked.
  absl::Status Check(absl::Span<const uint8_t> data);

  int64_t checked() const { return checked_; }  // bytes
  uint32_t left() const {                       // leaves
    return static_cast<uint32_t>(leaves_.size() - next_);
  }
  const std::vector<Digest>& leaves() const { return leaves_; }

 private:
  const uint32_t piece_;
  const int64_t bytes_;
  const std::vector<Digest> leaves_;
  int64_t checked_ = 0;
  size_t next_ = 0;
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_SWARM_LEAF_CHECK_H_
