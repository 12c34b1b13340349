#ifndef KOINON_DHT_SWARM_MERKLE_H_
#define KOINON_DHT_SWARM_MERKLE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/digest.h"
#include "dht/swarm/leaf_hashes.h"
#include "proto/model.pb.h"

namespace koinon::dht {

// The tree over a content's bytes (docs/formats/manifest.md; the shape of
// BEP 52): leaves are the SHA-256 of 16 KiB each, the last one of what is left;
// a missing leaf is 32 zero bytes; a node is the SHA-256 of its two children,
// up to a power of two of leaves, and at least a whole piece of them. A content
// of no bytes has no leaves and no pieces; its root is that of a piece of
// missing leaves.
inline constexpr int64_t kMaxPieceBytes = 4 << 20;
inline constexpr int64_t kMinPieceBytes = 64 << 10;
// Of a content that can be fetched: the hashes of its pieces are one message,
// of at most 1 MiB (dht/transport/channels.cc), those of its leaves a file of
// at most 256 MiB (content_file_open.cc).
inline constexpr int64_t kMaxContentBytes = int64_t{120} << 30;

// A power of two in [kMinPieceBytes, kMaxPieceBytes], so that there are between
// 128 and 256 pieces where those bounds allow it.
int64_t PieceSizeFor(int64_t size_bytes);

// How a content divides. A value. Its methods ask for sizes that CheckContent
// has passed, and for a piece that is one.
struct PieceMap {
  int64_t size_bytes = 0;
  int64_t piece_size_bytes = 0;

  uint32_t pieces() const;
  int64_t PieceOffset(uint32_t piece) const;
  int64_t PieceBytes(uint32_t piece) const;  // the last one may be short
  uint32_t LeavesIn(uint32_t piece) const;
  uint64_t leaves() const;
  uint32_t LeavesPerPiece() const;  // of a whole one
};

// INVALID_ARGUMENT for sizes that are none: negative, a piece size that is no
// power of two or outside [kLeafBytes, kMaxPieceBytes], more than 2^31 pieces,
// or a root that is not 32 bytes long.
absl::Status CheckContent(const v1::Content& content);
PieceMap MapOf(const v1::Content& content);

// Of one piece: over its leaves, padded with zero leaves to a full piece (of
// `leaves_per_piece`, a power of two).
Digest PieceHash(absl::Span<const Digest> leaves, size_t leaves_per_piece);
// Over the pieces' hashes, padded to a power of two with what a piece of zero
// leaves hashes to. One piece is its own root.
Digest RootHash(absl::Span<const Digest> pieces, size_t leaves_per_piece);

// Hashes bytes as they are written. Not thread-safe.
class MerkleBuilder {
 public:
  void Append(const void* data, size_t size);
  // Once: all leaves, in order.
  std::vector<Digest> Finish();

 private:
  Sha256 leaf_;
  size_t in_leaf_ = 0;  // bytes of the leaf that is not whole yet
  std::vector<Digest> leaves_;
};

// Of a whole content.
struct MerkleTree {
  v1::Content content;
  std::vector<Digest> leaves;
  std::vector<Digest> pieces;
};
// `leaves`: all of a content of `size_bytes`.
MerkleTree TreeOf(std::vector<Digest> leaves, int64_t size_bytes,
                  int64_t piece_size_bytes);

}  // namespace koinon::dht

#endif  // KOINON_DHT_SWARM_MERKLE_H_
