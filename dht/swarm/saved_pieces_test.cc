#include "dht/swarm/saved_pieces.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/status_matchers.h"
#include "dht/swarm/merkle.h"

namespace koinon::dht {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::StatusIs;
using ::testing::HasSubstr;

MerkleTree TenPieces() {
  std::vector<Digest> leaves;
  for (int i = 0; i < 10; ++i) leaves.push_back(Sha256Of(std::string(i, 'x')));
  return TreeOf(leaves, 10 * kLeafBytes, kLeafBytes);
}

SavedPieces SomeOf(const MerkleTree& tree) {
  SavedPieces saved{.layer = tree.pieces, .have = Bitmap(tree.pieces.size())};
  saved.have.Set(0);
  saved.have.Set(9);
  return saved;
}

// The format's checksum, so that what is behind it is reached.
std::string WithChecksum(std::string body) {
  body.resize(body.size() - 32);
  return body + Sha256Of(body).ToBytes();
}

TEST(SavedPiecesTest, Pieces_WrittenAndRead_AreTheSame) {
  const MerkleTree tree = TenPieces();
  const SavedPieces saved = SomeOf(tree);
  const std::string bytes = EncodeSavedPieces(tree.content, saved);
  EXPECT_LE(bytes.size(), MaxSavedPiecesBytes(tree.content));
  const auto read = DecodeSavedPieces(tree.content, bytes);
  ASSERT_THAT(read, IsOk());
  EXPECT_EQ(read->layer, saved.layer);
  EXPECT_EQ(read->have, saved.have);
}

TEST(SavedPiecesTest, Pieces_WithoutALayer_AreNone) {
  const MerkleTree tree = TenPieces();
  SavedPieces saved{.layer = {}, .have = Bitmap(10)};
  EXPECT_THAT(
      DecodeSavedPieces(tree.content, EncodeSavedPieces(tree.content, saved)),
      IsOk());
  saved.have.Set(3);
  EXPECT_THAT(
      DecodeSavedPieces(tree.content, EncodeSavedPieces(tree.content, saved)),
      StatusIs(absl::StatusCode::kDataLoss, HasSubstr("no piece layer")));
}

TEST(SavedPiecesTest, Layer_WithAnotherRoot_IsRefused) {
  const MerkleTree tree = TenPieces();
  SavedPieces saved = SomeOf(tree);
  std::swap(saved.layer[1], saved.layer[2]);
  EXPECT_THAT(
      DecodeSavedPieces(tree.content, EncodeSavedPieces(tree.content, saved)),
      StatusIs(absl::StatusCode::kDataLoss, HasSubstr("another root")));
}

TEST(SavedPiecesTest, Bytes_OfAnotherContent_AreRefused) {
  const MerkleTree tree = TenPieces();
  const std::string bytes = EncodeSavedPieces(tree.content, SomeOf(tree));
  v1::Content other = tree.content;
  other.set_size_bytes(other.size_bytes() - 1);
  EXPECT_THAT(
      DecodeSavedPieces(other, bytes),
      StatusIs(absl::StatusCode::kDataLoss, HasSubstr("another content")));
  other.set_size_bytes(100 * kLeafBytes);
  EXPECT_THAT(DecodeSavedPieces(other, bytes),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("100 pieces")));
}

TEST(SavedPiecesTest, Bytes_TornOrFlipped_AreRefused) {
  const MerkleTree tree = TenPieces();
  const std::string bytes = EncodeSavedPieces(tree.content, SomeOf(tree));
  for (size_t i = 0; i < bytes.size(); ++i) {
    EXPECT_THAT(DecodeSavedPieces(tree.content, bytes.substr(0, i)),
                StatusIs(absl::StatusCode::kDataLoss));
    std::string flipped = bytes;
    flipped[i] ^= 0x40;
    EXPECT_THAT(DecodeSavedPieces(tree.content, flipped),
                StatusIs(absl::StatusCode::kDataLoss));
  }
}

TEST(SavedPiecesTest, Bytes_WithAWrongCountOrBitsBeyond_AreRefused) {
  const MerkleTree tree = TenPieces();
  const std::string bytes = EncodeSavedPieces(tree.content, SomeOf(tree));
  std::string wrong = bytes;
  wrong[8 + 32 + 8 + 8] = 9;  // hashes
  EXPECT_THAT(DecodeSavedPieces(tree.content, WithChecksum(wrong)),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("9 hashes")));
  wrong = bytes;
  wrong[wrong.size() - 33] |= 0x04;  // the bitmap's 11th bit
  EXPECT_THAT(DecodeSavedPieces(tree.content, WithChecksum(wrong)),
              StatusIs(absl::StatusCode::kDataLoss));
}

}  // namespace
}  // namespace koinon::dht
