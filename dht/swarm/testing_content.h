#ifndef KOINON_DHT_SWARM_TESTING_CONTENT_H_
#define KOINON_DHT_SWARM_TESTING_CONTENT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base/env.h"
#include "base/random.h"
#include "dht/swarm/merkle.h"

namespace koinon::dht {

// Bytes drawn by seed, and the tree over them. For tests.
struct TestContent {
  std::vector<uint8_t> bytes;
  MerkleTree tree;

  const v1::Content& content() const { return tree.content; }
  PieceMap map() const { return MapOf(tree.content); }
  absl::Span<const uint8_t> Piece(uint32_t piece) const {
    return absl::MakeConstSpan(bytes).subspan(map().PieceOffset(piece),
                                              map().PieceBytes(piece));
  }
  std::vector<Digest> LeavesOf(uint32_t piece) const {
    const auto first = tree.leaves.begin() +
                       static_cast<int64_t>(piece) * map().LeavesPerPiece();
    return {first, first + map().LeavesIn(piece)};
  }
};

inline TestContent TreeOver(std::vector<uint8_t> bytes, int64_t piece_bytes) {
  TestContent test;
  MerkleBuilder builder;
  builder.Append(bytes.data(), bytes.size());
  test.tree =
      TreeOf(builder.Finish(), static_cast<int64_t>(bytes.size()), piece_bytes);
  test.bytes = std::move(bytes);
  return test;
}

inline TestContent RandomContent(uint64_t seed, int64_t size_bytes,
                                 int64_t piece_bytes) {
  Random random(seed);
  std::vector<uint8_t> bytes(size_bytes);
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i % 8 == 0) {
      const uint64_t drawn = random.NextUint64();
      for (size_t j = i; j < bytes.size() && j < i + 8; ++j) {
        bytes[j] = static_cast<uint8_t>(drawn >> (8 * (j - i)));
      }
    }
  }
  return TreeOver(std::move(bytes), piece_bytes);
}

// The bytes as a file.
inline absl::Status WriteContent(Env* env, const std::string& path,
                                 const TestContent& test) {
  auto file = env->Open(path, Env::OpenMode::kCreate);
  if (!file.ok()) return file.status();
  return (*file)->WriteAt(0, test.bytes.data(), test.bytes.size());
}

// One byte of the file is another from now on, as a disk would have it.
inline absl::Status DamageFile(Env* env, const std::string& path,
                               uint64_t offset) {
  auto file = env->Open(path, Env::OpenMode::kReadWrite);
  if (!file.ok()) return file.status();
  uint8_t byte = 0;
  const absl::Status read = (*file)->ReadAt(offset, 1, &byte);
  if (!read.ok()) return read;
  byte ^= 1;
  return (*file)->WriteAt(offset, &byte, 1);
}

}  // namespace koinon::dht

#endif  // KOINON_DHT_SWARM_TESTING_CONTENT_H_
