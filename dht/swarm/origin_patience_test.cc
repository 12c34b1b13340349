#include "dht/swarm/origin_patience.h"

#include <gtest/gtest.h>

namespace koinon::dht {
namespace {

using Step = OriginPatience::Step;

absl::Time At(double seconds) {
  return absl::UnixEpoch() + absl::Seconds(seconds);
}

OriginPatience Dry() {
  OriginPatience origin(absl::Seconds(2));
  origin.OnNone(At(0), /*starving=*/false);
  return origin;
}

// It has nothing else, and has asked for a certain piece at 4.
OriginPatience Starved() {
  OriginPatience origin = Dry();
  EXPECT_EQ(origin.Next(At(2), true, true), Step::kAny);
  origin.OnNone(At(2), true);
  EXPECT_EQ(origin.Next(At(4), true, true), Step::kCertain);
  return origin;
}

TEST(OriginPatienceTest, Next_NothingIsWanting_Waits) {
  OriginPatience origin = Dry();
  EXPECT_TRUE(origin.dry());
  EXPECT_EQ(origin.Next(At(1000), false, false), Step::kWait);
}

TEST(OriginPatienceTest, Next_Starving_AnyThenCertain) {
  OriginPatience origin = Dry();
  EXPECT_EQ(origin.Next(At(1.9), true, true), Step::kWait);
  EXPECT_EQ(origin.deadline(), At(2));
  EXPECT_EQ(origin.Next(At(2), true, true), Step::kAny);
  origin.OnNone(At(2), true);
  EXPECT_EQ(origin.Next(At(3.9), true, true), Step::kWait);
  EXPECT_EQ(origin.Next(At(4), true, true), Step::kCertain);
  origin.OnRefused(At(4));
  EXPECT_EQ(origin.Next(At(5.9), true, true), Step::kWait);
  EXPECT_EQ(origin.Next(At(6), true, true), Step::kCertain);
  EXPECT_EQ(origin.certain(), 1u);
}

TEST(OriginPatienceTest, Next_Alone_WaitsLess) {
  OriginPatience origin = Dry();
  const absl::Time soon = At(0) + OriginPatience::Alone(absl::Seconds(2));
  EXPECT_LT(soon, At(1));
  EXPECT_EQ(origin.deadline(/*alone=*/true), soon);
  EXPECT_EQ(origin.Next(soon, true, true), Step::kWait);
  EXPECT_EQ(origin.Next(soon, true, true, /*alone=*/true), Step::kAny);
  EXPECT_EQ(origin.Next(soon, true, true, /*alone=*/true), Step::kWait);
}

TEST(OriginPatienceTest, OnLastResort_MoreAndMoreUntilAPeerGives) {
  OriginPatience origin = Starved();
  for (const size_t certain : {1, 2, 3, 3}) {
    origin.OnLastResort(/*most=*/3);
    EXPECT_EQ(origin.certain(), certain);
    EXPECT_EQ(origin.Next(At(4), false, false), Step::kCertain);
  }
  origin.OnPeerGave();
  EXPECT_EQ(origin.Next(At(5), true, true), Step::kWait);
  EXPECT_EQ(origin.Next(At(6), true, true), Step::kAny);  // from the beginning
}

TEST(OriginPatienceTest, OnLastResort_APeerGaveMeanwhile_IsNotAlone) {
  OriginPatience origin = Starved();
  origin.OnPeerGave();
  origin.OnLastResort(4);
  EXPECT_EQ(origin.Next(At(5), true, true), Step::kWait);
  EXPECT_EQ(origin.Next(At(6), true, true), Step::kAny);
}

TEST(OriginPatienceTest, OnLastResort_ARefusal_BeginsAnew) {
  OriginPatience origin = Starved();
  origin.OnLastResort(4);
  origin.OnLastResort(4);
  origin.OnRefused(At(10));
  EXPECT_EQ(origin.certain(), 1u);
  EXPECT_EQ(origin.Next(At(11), true, true), Step::kWait);
}

TEST(OriginPatienceTest, Next_APieceThatNobodyHas_AnyOnlyAndEverMoreSeldom) {
  OriginPatience origin = Dry();
  double second = 0;
  for (const double wait : {2, 4, 8, 16, 16}) {
    EXPECT_EQ(origin.Next(At(second + wait - 0.1), false, true), Step::kWait);
    second += wait;
    EXPECT_EQ(origin.Next(At(second), false, true), Step::kAny);
    origin.OnNone(At(second), false);
  }
  origin.OnPeerGave();
  EXPECT_EQ(origin.deadline(), At(second + 2));
}

TEST(OriginPatienceTest, OnStarted_GivesAgain) {
  OriginPatience origin = Dry();
  origin.OnStarted();
  EXPECT_FALSE(origin.dry());
}

}  // namespace
}  // namespace koinon::dht
