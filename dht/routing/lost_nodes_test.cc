#include "dht/routing/lost_nodes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/digest.h"

namespace koinon::dht {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const absl::Time kNow = absl::FromUnixSeconds(1'000);

Key Target() { return Sha256Of("target"); }

// In the order of their distance to Target().
Contact At(uint8_t distance) {
  std::string id = Target().ToBytes();
  id[0] = static_cast<char>(id[0] ^ distance);
  return {*Key::FromBytes(id), absl::StrCat("n", distance, ":1"), ""};
}

TEST(LostNodesTest, Next_OfSome_TakesEachInTurn) {
  LostNodes lost(3);
  for (const uint8_t i : {1, 2, 3}) lost.Add(At(i), kNow);
  for (int round = 0; round < 2; ++round) {
    for (const uint8_t i : {1, 2, 3}) EXPECT_EQ(lost.Next(kNow), At(i));
  }
}

TEST(LostNodesTest, Next_WhoLeftLongAgo_IsNamedForTheLastTime) {
  LostNodes lost(3);
  lost.Add(At(1), kNow);
  lost.Add(At(2), kNow + absl::Seconds(1));
  lost.Add(At(3), kNow);
  lost.Add(At(3), kNow + absl::Seconds(2));  // was back meanwhile
  const absl::Time forgotten = kNow + absl::Seconds(1);
  for (const uint8_t i : {1, 2, 3, 2}) EXPECT_EQ(lost.Next(forgotten), At(i));
  EXPECT_EQ(lost.size(), 2u);
}

TEST(LostNodesTest, Add_MoreThanTheLimit_ForgetsTheOneWhoseTurnIsNext) {
  LostNodes lost(2);
  for (const uint8_t i : {1, 2, 3}) lost.Add(At(i), kNow);
  EXPECT_EQ(lost.size(), 2u);
  EXPECT_THAT(lost.Nearest(Target(), 9), ElementsAre(At(2), At(3)));
}

TEST(LostNodesTest, Add_Again_TakesTheNewAddress) {
  LostNodes lost(3);
  lost.Add(At(1), kNow);
  lost.Add(At(2), kNow);
  Contact moved = At(1);
  moved.address = "elsewhere:1";
  lost.Add(moved, kNow);
  EXPECT_EQ(lost.size(), 2u);
  EXPECT_EQ(lost.Next(kNow), At(2));
  EXPECT_EQ(lost.Next(kNow), moved);
}

TEST(LostNodesTest, Remove_SaysWhetherItWasThere) {
  LostNodes lost(3);
  lost.Add(At(1), kNow);
  EXPECT_FALSE(lost.Remove(At(2).id));
  EXPECT_TRUE(lost.Remove(At(1).id));
  EXPECT_TRUE(lost.empty());
}

TEST(LostNodesTest, Nearest_OfMany_AreTheNearestInOrder) {
  LostNodes lost(9);
  EXPECT_THAT(lost.Nearest(Target(), 3), IsEmpty());
  for (const uint8_t i : {7, 2, 200, 1, 30}) lost.Add(At(i), kNow);
  EXPECT_THAT(lost.Nearest(Target(), 3), ElementsAre(At(1), At(2), At(7)));
}

TEST(LostNodesTest, NoLimitAtAll_RemembersNobody) {
  LostNodes lost(0);
  lost.Add(At(1), kNow);
  EXPECT_TRUE(lost.empty());
}

}  // namespace
}  // namespace koinon::dht
