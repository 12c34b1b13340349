#include "dht/swarm/merkle.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace koinon::dht {
namespace {

int64_t DivideUp(int64_t a, int64_t b) { return a / b + (a % b != 0); }

Digest NodeHash(const Digest& left, const Digest& right) {
  thread_local Sha256 sha;  // a new context costs more than the hash
  sha.Update(left.bytes().data(), Digest::kSizeBytes);
  sha.Update(right.bytes().data(), Digest::kSizeBytes);
  return sha.Finish();
}

// The root over `nodes`, padded to `width` (a power of two) with `padding`.
Digest Fold(std::vector<Digest> nodes, size_t width, Digest padding) {
  for (; width > 1; width /= 2) {
    if (nodes.size() % 2 == 1) nodes.push_back(padding);
    for (size_t i = 0; i < nodes.size() / 2; ++i) {
      nodes[i] = NodeHash(nodes[2 * i], nodes[2 * i + 1]);
    }
    nodes.resize(nodes.size() / 2);
    padding = NodeHash(padding, padding);
  }
  return nodes.empty() ? padding : nodes[0];
}

}  // namespace

int64_t PieceSizeFor(int64_t size_bytes) {
  KOINON_CHECK(size_bytes >= 0);
  const uint64_t wanted = DivideUp(size_bytes, 256);
  const int64_t power = static_cast<int64_t>(std::bit_ceil(wanted));
  return std::clamp(power, kMinPieceBytes, kMaxPieceBytes);
}

uint32_t PieceMap::pieces() const {
  return static_cast<uint32_t>(DivideUp(size_bytes, piece_size_bytes));
}

int64_t PieceMap::PieceOffset(uint32_t piece) const {
  return piece * piece_size_bytes;
}

int64_t PieceMap::PieceBytes(uint32_t piece) const {
  return std::min(piece_size_bytes, size_bytes - PieceOffset(piece));
}

uint32_t PieceMap::LeavesIn(uint32_t piece) const {
  return static_cast<uint32_t>(DivideUp(PieceBytes(piece), kLeafBytes));
}

uint64_t PieceMap::leaves() const { return DivideUp(size_bytes, kLeafBytes); }

uint32_t PieceMap::LeavesPerPiece() const {
  return static_cast<uint32_t>(piece_size_bytes / kLeafBytes);
}

absl::Status CheckContent(const v1::Content& content) {
  if (content.root().size() != Digest::kSizeBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("content.root: ", Digest::kSizeBytes,
                     " bytes expected, found ", content.root().size()));
  }
  if (content.size_bytes() < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("content.size_bytes: 0 or more expected, found ",
                     content.size_bytes()));
  }
  const int64_t piece = content.piece_size_bytes();
  if (piece < kLeafBytes || piece > kMaxPieceBytes ||
      !std::has_single_bit(static_cast<uint64_t>(piece))) {
    return absl::InvalidArgumentError(absl::StrCat(
        "content.piece_size_bytes: a power of two from ", kLeafBytes, " to ",
        kMaxPieceBytes, " expected, found ", piece));
  }
  if (DivideUp(content.size_bytes(), piece) > int64_t{1} << 31) {
    return absl::InvalidArgumentError(absl::StrCat(
        "content.size_bytes: at most 2^31 pieces of ", piece,
        " bytes expected, found ", content.size_bytes(), " bytes"));
  }
  return absl::OkStatus();
}

PieceMap MapOf(const v1::Content& content) {
  return PieceMap{.size_bytes = content.size_bytes(),
                  .piece_size_bytes = content.piece_size_bytes()};
}

Digest PieceHash(absl::Span<const Digest> leaves, size_t leaves_per_piece) {
  KOINON_CHECK(std::has_single_bit(leaves_per_piece));
  KOINON_CHECK(leaves.size() <= leaves_per_piece);
  return Fold({leaves.begin(), leaves.end()}, leaves_per_piece, Digest());
}

Digest RootHash(absl::Span<const Digest> pieces, size_t leaves_per_piece) {
  return Fold({pieces.begin(), pieces.end()}, std::bit_ceil(pieces.size()),
              PieceHash({}, leaves_per_piece));
}

void MerkleBuilder::Append(const void* data, size_t size) {
  const uint8_t* bytes = static_cast<const uint8_t*>(data);
  while (size > 0) {
    if (in_leaf_ == 0 && size >= kLeafBytes) {
      const size_t whole = size - size % kLeafBytes;
      const std::vector<Digest> leaves =
          LeafHashes(absl::MakeConstSpan(bytes, whole));
      leaves_.insert(leaves_.end(), leaves.begin(), leaves.end());
      bytes += whole;
      size -= whole;
      continue;
    }
    const size_t part = std::min(size, kLeafBytes - in_leaf_);
    leaf_.Update(bytes, part);
    bytes += part;
    size -= part;
    in_leaf_ += part;
    if (in_leaf_ == kLeafBytes) {
      leaves_.push_back(leaf_.Finish());
      in_leaf_ = 0;
    }
  }
}

std::vector<Digest> MerkleBuilder::Finish() {
  if (in_leaf_ > 0) leaves_.push_back(leaf_.Finish());
  in_leaf_ = 0;
  return std::move(leaves_);
}

MerkleTree TreeOf(std::vector<Digest> leaves, int64_t size_bytes,
                  int64_t piece_size_bytes) {
  const PieceMap map{.size_bytes = size_bytes,
                     .piece_size_bytes = piece_size_bytes};
  KOINON_CHECK(leaves.size() == map.leaves());
  MerkleTree tree;
  tree.leaves = std::move(leaves);
  tree.pieces.reserve(map.pieces());
  const absl::Span<const Digest> all = tree.leaves;
  for (uint32_t piece = 0; piece < map.pieces(); ++piece) {
    const size_t first = size_t{piece} * map.LeavesPerPiece();
    tree.pieces.push_back(PieceHash(all.subspan(first, map.LeavesIn(piece)),
                                    map.LeavesPerPiece()));
  }
  tree.content.set_root(RootHash(tree.pieces, map.LeavesPerPiece()).ToBytes());
  tree.content.set_size_bytes(size_bytes);
  tree.content.set_piece_size_bytes(piece_size_bytes);
  return tree;
}

}  // namespace koinon::dht
