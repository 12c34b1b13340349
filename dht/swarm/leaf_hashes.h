#ifndef KOINON_DHT_SWARM_LEAF_HASHES_H_
#define KOINON_DHT_SWARM_LEAF_HASHES_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "base/digest.h"

namespace koinon::dht {

// Of a leaf of a content's tree (merkle.h); the last may be shorter.
inline constexpr int64_t kLeafBytes = 16 << 10;

Digest LeafHash(absl::Span<const uint8_t> leaf);

// How many leaves are hashed; the hashes are the same.
enum class LeafHashing {
  // One after the other, by OpenSSL.
  kOneByOne,
  // Sixteen side by side, in the lanes of AVX-512 registers (FIPS 180-4): more
  // than twice as fast as one after the other with the processor's instructions
  // for SHA-256, because none waits for what it has just computed. OpenSSL
  // hashes one message at a time.
  kSixteen,
};

// The fastest that this processor can.
LeafHashing BestLeafHashing();

// The SHA-256 of each leaf of `bytes`, in order: of kLeafBytes each, but for
// the last, which may be shorter. `how` must be one that this processor can.
std::vector<Digest> LeafHashes(absl::Span<const uint8_t> bytes,
                               LeafHashing how = BestLeafHashing());

}  // namespace koinon::dht

#endif  // KOINON_DHT_SWARM_LEAF_HASHES_H_
