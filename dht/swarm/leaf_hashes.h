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

// The SHA-256 of each leaf of `bytes`, in order: of kLeafBytes each, but for
// the last, which may be shorter. Many at once are more than twice as fast as
// one after the other: they are hashed side by side in wide registers (Intel's
// multi-buffer library; OpenSSL hashes one message at a time). Thread-safe.
std::vector<Digest> LeafHashes(absl::Span<const uint8_t> bytes);

}  // namespace koinon::dht

#endif  // KOINON_DHT_SWARM_LEAF_HASHES_H_
