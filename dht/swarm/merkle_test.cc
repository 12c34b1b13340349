#include "dht/swarm/merkle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "base/random.h"
#include "base/status_matchers.h"

namespace koinon::dht {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::SizeIs;

std::vector<uint8_t> Data(size_t size) {
  std::vector<uint8_t> data(size);
  for (size_t i = 0; i < size; ++i) {
    data[i] = static_cast<uint8_t>(i * 7 + (i >> 8) * 13 + (i >> 14) * 101);
  }
  return data;
}

std::vector<Digest> LeavesOf(const std::vector<uint8_t>& data) {
  MerkleBuilder builder;
  builder.Append(data.data(), data.size());
  return builder.Finish();
}

// The roots are those of a reader of its own, in Python: hashlib over Data(),
// leaves padded with 32 zero bytes to the larger of a piece and a power of two,
// and halved recursively from the top. The leaf of 64 KiB + 1 is the only one
// of its second piece; 1,000,000 bytes are 62 leaves in 8 or 16 pieces.
TEST(MerkleTest, TreeOf_ManySizes_GivesTheRootsOfAnIndependentReader) {
  const struct {
    size_t size;
    int64_t piece;
    const char* root;
  } vectors[] = {
      {0, 65536,
       "db56114e00fdd4c1f85c892bf35ac9a89289aaecb1ebd0a96cde606a748b5d71"},
      {1, 65536,
       "31d526fa442b00d60b5327e4801cbd74de5f3efdc904f608497a4720abbbd8df"},
      {1, 16384,
       "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"},
      {16384, 65536,
       "8feda6e483e0a1fe76a4c1abe5df881e31f3d47aee69d2bf3cf29446351562da"},
      {16385, 65536,
       "f5ed8328490a4d283a7af6c60b7891fd53d7c046f194c5038445e91d6164f1c1"},
      {65536, 65536,
       "15ae7deb2b479227d8423c761f3c97e218f4607e28f41dc044a7b35f15b106ea"},
      {65537, 65536,
       "017034c39f4457cc8dce9a847ce2ef9517133ba2381c99e690cbc7bc46273d97"},
      {65537, 16384,
       "017034c39f4457cc8dce9a847ce2ef9517133ba2381c99e690cbc7bc46273d97"},
      {340025, 65536,
       "ed3472fc990efe6a2820a48cb9798f000a3eb620e3848e406c65807f641e7aa5"},
      {1000000, 131072,
       "dee48c5335e9f4074fb95c7c434247bb86a8c196c6e5332a3b92c1f59206dcf7"},
      {1000000, 65536,
       "dee48c5335e9f4074fb95c7c434247bb86a8c196c6e5332a3b92c1f59206dcf7"},
  };
  for (const auto& vector : vectors) {
    const MerkleTree tree =
        TreeOf(LeavesOf(Data(vector.size)), vector.size, vector.piece);
    EXPECT_EQ(Digest::FromBytes(tree.content.root())->ToHex(), vector.root)
        << vector.size << " bytes in pieces of " << vector.piece;
    EXPECT_EQ(tree.content.size_bytes(), static_cast<int64_t>(vector.size));
    EXPECT_EQ(tree.content.piece_size_bytes(), vector.piece);
    EXPECT_THAT(CheckContent(tree.content), IsOk());
  }
}

TEST(MerkleTest, Builder_BytesInAnyParts_GivesTheSameLeaves) {
  constexpr uint64_t kSeed = 11;
  Random random(kSeed);
  const std::vector<uint8_t> data = Data(5 * kLeafBytes + 777);
  const std::vector<Digest> whole = LeavesOf(data);
  ASSERT_THAT(whole, SizeIs(6));
  for (int round = 0; round < 20; ++round) {
    MerkleBuilder builder;
    for (size_t at = 0; at < data.size();) {
      const size_t part =
          std::min<size_t>(random.NextBelow(40000), data.size() - at);
      builder.Append(data.data() + at, part);
      at += part;
    }
    EXPECT_EQ(builder.Finish(), whole) << "seed " << kSeed;
  }
}

TEST(MerkleTest, LeafHash_EachLeaf_IsTheBuilders) {
  const std::vector<uint8_t> data = Data(2 * kLeafBytes + 5);
  const std::vector<Digest> leaves = LeavesOf(data);
  const absl::Span<const uint8_t> bytes = data;
  EXPECT_EQ(LeafHash(bytes.subspan(0, kLeafBytes)), leaves[0]);
  EXPECT_EQ(LeafHash(bytes.subspan(2 * kLeafBytes)), leaves[2]);
  // hashlib's, of the first leaf.
  EXPECT_EQ(leaves[0].ToHex(),
            "127c52d4afc9d4e335b94d914f75fbf75b5dc62e6dbd31c6d71c868fc23e5fe5");
}

TEST(MerkleTest, TreeOf_AnyFlippedLeaf_ChangesItsPieceAndTheRoot) {
  constexpr int64_t kSize = 300001;
  const std::vector<Digest> leaves = LeavesOf(Data(kSize));
  const MerkleTree tree = TreeOf(leaves, kSize, kMinPieceBytes);
  for (size_t i = 0; i < leaves.size(); ++i) {
    std::vector<Digest> other = leaves;
    other[i] = Sha256Of("another leaf");
    const MerkleTree changed = TreeOf(other, kSize, kMinPieceBytes);
    EXPECT_NE(changed.content.root(), tree.content.root());
    for (size_t piece = 0; piece < tree.pieces.size(); ++piece) {
      EXPECT_EQ(changed.pieces[piece] != tree.pieces[piece], piece == i / 4);
    }
  }
}

TEST(MerkleTest, RootHash_OnePiece_IsThatPiece) {
  const Digest piece = Sha256Of("a piece");
  EXPECT_EQ(RootHash({piece}, 4), piece);
}

TEST(MerkleTest, PieceSizeFor_AllSizes_IsAPowerOfTwoAndBounded) {
  EXPECT_EQ(PieceSizeFor(0), kMinPieceBytes);
  EXPECT_EQ(PieceSizeFor(16 << 20), 64 << 10);
  EXPECT_EQ(PieceSizeFor((16 << 20) + 1), 128 << 10);
  EXPECT_EQ(PieceSizeFor(100'000'000), 512 << 10);
  EXPECT_EQ(PieceSizeFor(1'000'000'000), 4 << 20);
  EXPECT_EQ(PieceSizeFor(10'000'000'000), kMaxPieceBytes);
  for (int64_t size = 17 << 20; size <= 1 << 30; size += 9999991) {
    const PieceMap map{.size_bytes = size,
                       .piece_size_bytes = PieceSizeFor(size)};
    EXPECT_GE(map.pieces(), 128u) << size;
    EXPECT_LE(map.pieces(), 256u) << size;
  }
  EXPECT_EQ((PieceMap{10'000'000'000, kMaxPieceBytes}).pieces(), 2385u);
}

TEST(PieceMapTest, LargestContent_HasNoMoreHashesThanMayBe) {
  const PieceMap map{.size_bytes = kMaxContentBytes,
                     .piece_size_bytes = PieceSizeFor(kMaxContentBytes)};
  EXPECT_LT(map.pieces() * Digest::kSizeBytes, (1 << 20) - 1000);
  EXPECT_LE(map.leaves() * Digest::kSizeBytes, 256 << 20);
}

TEST(PieceMapTest, Pieces_AnySize_AddUpToIt) {
  for (const int64_t size :
       {0, 1, 16384, 16385, 65535, 65536, 65537, 1234567}) {
    const PieceMap map{.size_bytes = size, .piece_size_bytes = 65536};
    int64_t bytes = 0;
    uint64_t leaves = 0;
    for (uint32_t piece = 0; piece < map.pieces(); ++piece) {
      EXPECT_EQ(map.PieceOffset(piece), bytes);
      EXPECT_GT(map.PieceBytes(piece), 0);
      bytes += map.PieceBytes(piece);
      leaves += map.LeavesIn(piece);
    }
    EXPECT_EQ(bytes, size);
    EXPECT_EQ(leaves, map.leaves());
  }
  EXPECT_EQ((PieceMap{0, 65536}).pieces(), 0u);
  EXPECT_EQ((PieceMap{65537, 65536}).LeavesIn(1), 1u);
  EXPECT_EQ((PieceMap{65537, 65536}).LeavesPerPiece(), 4u);
}

v1::Content GoodContent() {
  v1::Content content;
  content.set_root(std::string(32, 'r'));
  content.set_size_bytes(1 << 20);
  content.set_piece_size_bytes(64 << 10);
  return content;
}

TEST(CheckContentTest, Content_Good_IsOk) {
  v1::Content content = GoodContent();
  EXPECT_THAT(CheckContent(content), IsOk());
  content.set_size_bytes(0);
  EXPECT_THAT(CheckContent(content), IsOk());
  content.set_size_bytes(int64_t{1} << 45);
  content.set_piece_size_bytes(kLeafBytes);
  EXPECT_THAT(CheckContent(content), IsOk());  // 2^31 pieces
}

TEST(CheckContentTest, Content_Bad_IsRefusedByName) {
  const auto refuses = [](const v1::Content& content, const char* what,
                          const char* found) {
    EXPECT_THAT(CheckContent(content),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr(what), HasSubstr(found))));
  };
  v1::Content content = GoodContent();
  content.set_root(std::string(31, 'r'));
  refuses(content, "content.root", "31");
  content = GoodContent();
  content.set_size_bytes(-1);
  refuses(content, "content.size_bytes", "-1");
  content = GoodContent();
  content.set_size_bytes((int64_t{1} << 45) + 1);
  content.set_piece_size_bytes(kLeafBytes);
  refuses(content, "content.size_bytes", "35184372088833");
  for (const int64_t piece : {int64_t{0}, int64_t{-65536}, kLeafBytes / 2,
                              kLeafBytes + 1, kMaxPieceBytes * 2, INT64_MIN}) {
    content = GoodContent();
    content.set_piece_size_bytes(piece);
    refuses(content, "content.piece_size_bytes", std::to_string(piece).c_str());
  }
}

}  // namespace
}  // namespace koinon::dht
