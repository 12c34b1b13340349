#include "dht/transport/rate_limit.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

namespace koinon::dht {
namespace {

const absl::Time kStart = absl::FromUnixSeconds(1'000);

Digest Peer(int i) { return Sha256Of(absl::StrCat("peer ", i)); }

int TakeAll(RateLimit* limit, const Digest& who, absl::Time now) {
  int taken = 0;
  while (taken < 100'000 && limit->Take(who, now)) ++taken;
  return taken;
}

TEST(RateLimitTest, Burst_AtOnce_IsWhatIsAllowed) {
  RateLimit limit({.per_second = 10, .burst = 25});
  EXPECT_EQ(TakeAll(&limit, Peer(1), kStart), 25);
}

TEST(RateLimitTest, AfterTheBurst_GrowsWithTime_NotBeyondTheBurst) {
  RateLimit limit({.per_second = 10, .burst = 25});
  TakeAll(&limit, Peer(1), kStart);
  EXPECT_EQ(TakeAll(&limit, Peer(1), kStart + absl::Milliseconds(99)), 0);
  EXPECT_EQ(TakeAll(&limit, Peer(1), kStart + absl::Milliseconds(500)), 5);
  EXPECT_EQ(TakeAll(&limit, Peer(1), kStart + absl::Hours(1)), 25);
}

TEST(RateLimitTest, RefusedQuestions_CostNothing) {
  RateLimit limit({.per_second = 10, .burst = 1});
  ASSERT_TRUE(limit.Take(Peer(1), kStart));
  for (int i = 1; i < 10; ++i) {
    EXPECT_FALSE(limit.Take(Peer(1), kStart + absl::Milliseconds(10 * i)));
  }
  EXPECT_TRUE(limit.Take(Peer(1), kStart + absl::Milliseconds(101)));
}

TEST(RateLimitTest, Flood_OfOne_LeavesTheOthersAlone) {
  RateLimit limit({.per_second = 10, .burst = 5});
  EXPECT_EQ(TakeAll(&limit, Peer(1), kStart), 5);
  EXPECT_EQ(TakeAll(&limit, Peer(2), kStart), 5);
}

TEST(RateLimitTest, ManyIdentities_AreBounded_TheLongestSilentGoFirst) {
  RateLimit limit({.per_second = 1, .burst = 1, .max_identities = 3});
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(limit.Take(Peer(i), kStart));
  EXPECT_FALSE(limit.Take(Peer(0), kStart));  // and has asked last now
  ASSERT_TRUE(limit.Take(Peer(3), kStart));
  EXPECT_EQ(limit.identities(), 3u);
  EXPECT_FALSE(limit.Take(Peer(0), kStart));
  EXPECT_TRUE(limit.Take(Peer(1), kStart));  // was forgotten
}

}  // namespace
}  // namespace koinon::dht
