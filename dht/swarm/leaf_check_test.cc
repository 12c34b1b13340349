#include "dht/swarm/leaf_check.h"

#include <vector>

#include "absl/types/span.h"
#include "base/status_matchers.h"
#include "dht/swarm/leaf_hashes.h"
#include "dht/swarm/merkle.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace koinon::dht {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kShort = 100;

// The second piece of a content: four leaves, the last one short.
class LeafCheckTest : public testing::Test {
 protected:
  LeafCheckTest() : bytes_(map_.PieceBytes(1)) {
    for (size_t i = 0; i < bytes_.size(); ++i) {
      bytes_[i] = static_cast<uint8_t>(i * 7 + i / 251);
    }
  }
  LeafCheck NewCheck() const { return LeafCheck(map_, 1, LeafHashes(bytes_)); }
  absl::Span<const uint8_t> Part(int64_t at, int64_t size) const {
    return absl::MakeConstSpan(bytes_).subspan(at, size);
  }

  const PieceMap map_ = {.size_bytes = kMinPieceBytes + 3 * kLeafBytes + kShort,
                         .piece_size_bytes = kMinPieceBytes};
  std::vector<uint8_t> bytes_;
};

TEST_F(LeafCheckTest, LeavesInOrder_AllPass) {
  LeafCheck check = NewCheck();
  EXPECT_EQ(check.left(), 4u);
  EXPECT_THAT(check.Check(Part(0, kLeafBytes)), IsOk());
  EXPECT_EQ(check.checked(), kLeafBytes);
  EXPECT_EQ(check.left(), 3u);
  EXPECT_THAT(check.Check(Part(kLeafBytes, 2 * kLeafBytes + kShort)), IsOk());
  EXPECT_EQ(check.left(), 0u);
  EXPECT_EQ(check.checked(), map_.PieceBytes(1));
}

TEST_F(LeafCheckTest, WrongLeaf_NamedAndNothingOfItCounts) {
  LeafCheck check = NewCheck();
  ASSERT_THAT(check.Check(Part(0, kLeafBytes)), IsOk());
  bytes_[2 * kLeafBytes + 5] ^= 1;
  EXPECT_THAT(check.Check(Part(kLeafBytes, 2 * kLeafBytes)),
              StatusIs(absl::StatusCode::kDataLoss,
                       HasSubstr("piece 1: leaf 2 has another hash")));
  EXPECT_EQ(check.checked(), kLeafBytes);
  EXPECT_EQ(check.left(), 3u);
}

TEST_F(LeafCheckTest, PartOfALeaf_IsDataLoss) {
  LeafCheck check = NewCheck();
  for (const int64_t size : {int64_t{1}, kLeafBytes - 1, kLeafBytes + kShort}) {
    EXPECT_THAT(check.Check(Part(0, size)),
                StatusIs(absl::StatusCode::kDataLoss,
                         HasSubstr("whole leaves expected")));
  }
  EXPECT_EQ(check.left(), 4u);
}

TEST_F(LeafCheckTest, MoreThanThePiece_IsDataLoss) {
  LeafCheck check = NewCheck();
  ASSERT_THAT(check.Check(bytes_), IsOk());
  EXPECT_THAT(check.Check(Part(0, kLeafBytes)),
              StatusIs(absl::StatusCode::kDataLoss,
                       HasSubstr("whole leaves expected")));
  EXPECT_THAT(NewCheck().Check(std::vector<uint8_t>(4 * kLeafBytes)),
              StatusIs(absl::StatusCode::kDataLoss,
                       HasSubstr("whole leaves expected")));
}

}  // namespace
}  // namespace koinon::dht
