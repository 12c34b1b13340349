#include "dht/swarm/bitmap.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "base/random.h"
#include "base/status_matchers.h"

namespace koinon::dht {
namespace {

using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;
using ::testing::HasSubstr;

TEST(BitmapTest, Set_Bits_AreWhereTheFormatSays) {
  Bitmap bitmap(12);
  bitmap.Set(0);
  bitmap.Set(9);
  bitmap.Set(11);
  EXPECT_EQ(bitmap.ToBytes(), std::string("\x01\x0a", 2));
  EXPECT_TRUE(bitmap.Has(9));
  EXPECT_FALSE(bitmap.Has(8));
  EXPECT_EQ(bitmap.count(), 3u);
}

TEST(BitmapTest, Set_Twice_CountsOnce) {
  Bitmap bitmap(3);
  bitmap.Set(1);
  bitmap.Set(1);
  EXPECT_EQ(bitmap.count(), 1u);
  EXPECT_FALSE(bitmap.full());
  bitmap.Set(0);
  bitmap.Set(2);
  EXPECT_TRUE(bitmap.full());
}

TEST(BitmapTest, Clear_TakesOneAwayOnce) {
  Bitmap bitmap(12);
  for (const size_t i : {0, 9, 11}) bitmap.Set(i);
  bitmap.Clear(9);
  bitmap.Clear(9);
  bitmap.Clear(1);
  EXPECT_EQ(bitmap.ToBytes(), std::string("\x01\x08", 2));
  EXPECT_EQ(bitmap.count(), 2u);
}

TEST(BitmapTest, Empty_IsFull) {
  EXPECT_TRUE(Bitmap(0).full());
  EXPECT_EQ(Bitmap(0).ToBytes(), "");
  EXPECT_THAT(Bitmap::FromBytes("", 0), IsOkAndHolds(Bitmap(0)));
}

TEST(BitmapTest, FromBytes_WhatToBytesGave_IsTheSame) {
  constexpr uint64_t kSeed = 5;
  Random random(kSeed);
  for (size_t size = 1; size < 70; ++size) {
    Bitmap bitmap(size);
    std::set<size_t> set;
    for (size_t i = 0; i < size / 2; ++i) {
      const size_t piece = random.NextBelow(size);
      bitmap.Set(piece);
      set.insert(piece);
    }
    EXPECT_EQ(bitmap.count(), set.size()) << "seed " << kSeed;
    for (size_t i = 0; i < size; ++i) {
      EXPECT_EQ(bitmap.Has(i), set.contains(i));
    }
    EXPECT_THAT(Bitmap::FromBytes(bitmap.ToBytes(), size),
                IsOkAndHolds(bitmap));
  }
}

TEST(BitmapTest, FromBytes_WrongLength_SaysBoth) {
  EXPECT_THAT(Bitmap::FromBytes("ab", 17),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("17 pieces has 3 bytes, found 2")));
  EXPECT_THAT(Bitmap::FromBytes("abc", 16),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("16 pieces has 2 bytes, found 3")));
}

TEST(BitmapTest, FromBytes_BitsAfterTheLast_IsRefused) {
  EXPECT_THAT(Bitmap::FromBytes(std::string("\x00\x10", 2), 12),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("no bit after the last one, found 16")));
  EXPECT_THAT(Bitmap::FromBytes(std::string("\x00\x0f", 2), 12),
              absl_testing::IsOk());
}

}  // namespace
}  // namespace koinon::dht
