#include "coordinator/spool/extents.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/random.h"

namespace koinon::coordinator {
namespace {

TEST(FreeExtentsTest, NothingFree_NothingTaken) {
  FreeExtents free;
  EXPECT_EQ(free.Take(1), std::nullopt);
  EXPECT_EQ(free.largest(), 0);
}

TEST(FreeExtentsTest, SeveralFit_TheSmallestIsTaken) {
  FreeExtents free;
  ASSERT_TRUE(free.Add(0, 100));
  ASSERT_TRUE(free.Add(200, 10));
  ASSERT_TRUE(free.Add(300, 20));
  ASSERT_TRUE(free.Add(400, 10));
  EXPECT_EQ(free.Take(9), 200);
  EXPECT_EQ(free.Take(9), 400);
  EXPECT_EQ(free.Take(9), 300);
  EXPECT_EQ(free.Take(10), 309);
  EXPECT_EQ(free.Take(101), std::nullopt);
  EXPECT_EQ(free.Take(100), 0);
}

TEST(FreeExtentsTest, Neighbours_AreJoined) {
  FreeExtents free;
  ASSERT_TRUE(free.Add(0, 10));
  ASSERT_TRUE(free.Add(20, 10));
  EXPECT_EQ(free.size_before(30), 10);
  EXPECT_EQ(free.size_before(31), 0);
  ASSERT_TRUE(free.Add(10, 10));
  EXPECT_EQ(free.largest(), 30);
  EXPECT_EQ(free.size_before(30), 30);
}

TEST(FreeExtentsTest, Overlaps_AreRefused) {
  FreeExtents free;
  ASSERT_TRUE(free.Add(10, 10));
  for (auto [offset, size] : std::vector<std::pair<uint64_t, uint64_t>>{
           {10, 10}, {0, 11}, {19, 5}, {12, 3}, {5, 30}}) {
    EXPECT_FALSE(free.Add(offset, size)) << offset << " " << size;
  }
  EXPECT_EQ(free.largest(), 10);
}

// Against a map of every byte.
TEST(FreeExtentsTest, RandomUse_MatchesByteMap) {
  constexpr uint64_t kEnd = 300;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Random random(seed);
    FreeExtents free;
    ASSERT_TRUE(free.Add(0, kEnd));
    std::vector<bool> is_free(kEnd, true);
    std::vector<std::pair<uint64_t, uint64_t>> held;
    for (int step = 0; step < 200; ++step) {
      if (held.empty() || random.NextBelow(2) == 0) {
        const uint64_t size = 1 + random.NextBelow(40);
        const auto offset = free.Take(size);
        if (!offset.has_value()) {
          EXPECT_LT(free.largest(), size);
          continue;
        }
        for (uint64_t i = 0; i < size; ++i) {
          ASSERT_TRUE(is_free[*offset + i]) << "seed " << seed;
          is_free[*offset + i] = false;
        }
        held.push_back({*offset, size});
      } else {
        std::swap(held[random.NextBelow(held.size())], held.back());
        const auto [offset, size] = held.back();
        held.pop_back();
        ASSERT_TRUE(free.Add(offset, size)) << "seed " << seed;
        for (uint64_t i = 0; i < size; ++i) is_free[offset + i] = true;
      }
    }
    for (const auto& [offset, size] : held) ASSERT_TRUE(free.Add(offset, size));
    EXPECT_EQ(free.largest(), kEnd) << "seed " << seed;
  }
}

}  // namespace
}  // namespace koinon::coordinator
