#include "dht/routing/lost_nodes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/digest.h"

namespace koinon::dht {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr uint64_t kSeed = 1;
const absl::Time kNow = absl::FromUnixSeconds(1'000);

Key Target() { return Sha256Of("target"); }

// In the order of their distance to Target().
Contact At(uint8_t distance) {
  std::string id = Target().ToBytes();
  id[0] = static_cast<char>(id[0] ^ distance);
  return {*Key::FromBytes(id), absl::StrCat("n", distance, ":1"), ""};
}

// Those that are named within the time, called every second.
std::vector<Contact> NamedIn(LostNodes* lost, absl::Time from,
                             absl::Duration duration) {
  std::vector<Contact> named;
  for (absl::Time now = from; now < from + duration; now += absl::Seconds(1)) {
    const std::optional<Contact> next = lost->Next(now);
    if (next.has_value()) named.push_back(*next);
  }
  return named;
}

TEST(LostNodesTest, Next_OfSome_TakesEachInTurn) {
  LostNodes lost({}, kSeed);
  EXPECT_EQ(lost.Next(kNow), std::nullopt);
  for (const uint8_t i : {1, 2, 3}) lost.Add(At(i), kNow);
  EXPECT_EQ(lost.Next(kNow), std::nullopt);  // it has just kept silent
  for (int i = 0; i < 6; ++i) {
    const absl::Time now = kNow + (1 + i) * absl::Seconds(5);
    EXPECT_EQ(lost.Next(now), At(1 + i % 3));
    EXPECT_EQ(lost.Next(now + absl::Seconds(4)), std::nullopt);
  }
}

TEST(LostNodesTest, Next_TheLongerAway_TheMoreRarely) {
  LostNodes lost({}, kSeed);
  lost.Add(At(1), kNow);
  const auto in = [&](absl::Duration from, absl::Duration duration) {
    return NamedIn(&lost, kNow + from, duration).size();
  };
  EXPECT_EQ(in(absl::ZeroDuration(), absl::Minutes(1)), 11u);
  // From a sixteenth of a minute on, and less than 5 s before that.
  const size_t rest_of_hour = in(absl::Minutes(1), absl::Minutes(59));
  EXPECT_GE(rest_of_hour, 55u);
  EXPECT_LE(rest_of_hour, 75u);
  EXPECT_EQ(in(absl::Hours(1), absl::Hours(2)), 18u);
  // Ten minutes are the most.
  EXPECT_EQ(in(absl::Hours(5), absl::Hours(10)), 60u);
  EXPECT_EQ(in(absl::Hours(100), absl::Hours(10)), 60u);
}

TEST(LostNodesTest, Next_ManyThatLeftLongAgo_ShareAFewQuestions) {
  LostNodes lost({}, kSeed);
  for (uint8_t i = 1; i <= 120; ++i) lost.Add(At(i), kNow);
  std::vector<Contact> named =
      NamedIn(&lost, kNow + absl::Hours(2), absl::Hours(4));
  EXPECT_EQ(named.size(), 120u);
  std::set<Key> different;
  for (const Contact& contact : named) different.insert(contact.id);
  EXPECT_EQ(different.size(), 120u);
  // Whoever has just left does not wait for them, nor they for it.
  const absl::Time later = kNow + absl::Hours(6);
  lost.Add(At(200), later);
  named = NamedIn(&lost, later, absl::Minutes(10));
  EXPECT_EQ(std::count(named.begin(), named.end(), At(200)), 47);
  EXPECT_EQ(named.size(), 47u + 5u);
}

TEST(LostNodesTest, Next_AwayForAWeek_IsNamedOnceMore) {
  LostNodes lost({}, kSeed);
  const absl::Duration week = absl::Hours(7 * 24);
  lost.Add(At(1), kNow);
  lost.Add(At(2), kNow);
  lost.Add(At(2), kNow + absl::Hours(10));  // was back meanwhile
  EXPECT_EQ(
      NamedIn(&lost, kNow + week + absl::Seconds(1), absl::Hours(1)),
      std::vector<Contact>({At(1), At(2), At(2), At(2), At(2), At(2), At(2)}));
  EXPECT_THAT(lost.All(), ElementsAre(At(2)));
}

TEST(LostNodesTest, Add_MoreThanTheLimit_KeepsAnyOfThem) {
  LostNodes::Options options;
  options.limit = 50;
  LostNodes lost(options, kSeed);
  for (uint8_t i = 1; i <= 200; ++i) lost.Add(At(i), kNow);
  const std::vector<Contact> kept = lost.All();
  ASSERT_EQ(kept.size(), 50u);
  // A quarter of each half is 25; 10 or fewer are 5 standard deviations off.
  const auto of_first_half =
      std::count_if(kept.begin(), kept.end(), [](const Contact& contact) {
        return Closer(Target(), contact.id, At(101).id);
      });
  EXPECT_GT(of_first_half, 10) << "seed " << kSeed;
  EXPECT_LT(of_first_half, 40) << "seed " << kSeed;
}

TEST(LostNodesTest, Add_MoreThanTheLimit_ForgetsWhoHasBeenAwayForLong) {
  LostNodes::Options options;
  options.limit = 3;
  LostNodes lost(options, kSeed);
  for (const uint8_t i : {1, 2, 3}) lost.Add(At(i), kNow);
  for (const uint8_t i : {4, 5, 6}) lost.Add(At(i), kNow + absl::Hours(2));
  EXPECT_THAT(lost.All(), ElementsAre(At(4), At(5), At(6)));
}

TEST(LostNodesTest, Add_ManyOfOneSite_DoesNotForgetTheFewOfAnother) {
  LostNodes::Options options;
  options.limit = 10;
  LostNodes lost(options, kSeed);
  Contact elsewhere = At(200);
  elsewhere.site = "elsewhere";
  lost.Add(elsewhere, kNow);
  for (uint8_t i = 1; i <= 100; ++i) lost.Add(At(i), kNow + absl::Hours(i));
  EXPECT_EQ(lost.size(), 10u);
  EXPECT_THAT(lost.All(), Contains(elsewhere));
}

TEST(LostNodesTest, Add_Again_TakesTheNewAddress) {
  LostNodes lost({}, kSeed);
  lost.Add(At(1), kNow);
  Contact moved = At(1);
  moved.address = "elsewhere:1";
  lost.Add(moved, kNow);
  EXPECT_THAT(lost.All(), ElementsAre(moved));
}

TEST(LostNodesTest, Remove_SaysWhetherItWasThere) {
  LostNodes lost({}, kSeed);
  lost.Add(At(1), kNow);
  EXPECT_FALSE(lost.Remove(At(2).id));
  EXPECT_TRUE(lost.Remove(At(1).id));
  EXPECT_EQ(lost.size(), 0u);
}

TEST(LostNodesTest, Recent_AreThoseOfTheLastHour) {
  LostNodes lost({}, kSeed);
  lost.Add(At(1), kNow);
  lost.Add(At(2), kNow + absl::Minutes(30));
  EXPECT_THAT(lost.Recent(kNow + absl::Hours(1)), ElementsAre(At(1), At(2)));
  EXPECT_THAT(lost.Recent(kNow + absl::Minutes(61)), ElementsAre(At(2)));
  EXPECT_THAT(lost.Recent(kNow + absl::Hours(2)), IsEmpty());
}

TEST(LostNodesTest, NoLimitAtAll_RemembersNobody) {
  LostNodes::Options options;
  options.limit = 0;
  LostNodes lost(options, kSeed);
  lost.Add(At(1), kNow);
  EXPECT_EQ(lost.size(), 0u);
}

}  // namespace
}  // namespace koinon::dht
