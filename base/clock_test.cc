#include "base/clock.h"

#include <gtest/gtest.h>

#include "absl/time/clock.h"

namespace koinon {
namespace {

TEST(ManualClockTest, Now_WithoutAdvance_StandsStill) {
  const ManualClock clock(absl::FromUnixSeconds(1000));
  EXPECT_EQ(clock.Now(), absl::FromUnixSeconds(1000));
  EXPECT_EQ(clock.Now(), absl::FromUnixSeconds(1000));
}

TEST(ManualClockTest, Advance_SomeTime_MovesByThat) {
  ManualClock clock(absl::FromUnixSeconds(1000));
  clock.Advance(absl::Seconds(5));
  clock.Advance(absl::ZeroDuration());
  EXPECT_EQ(clock.Now(), absl::FromUnixSeconds(1005));
}

TEST(RealClockTest, Now_ManyReadings_NeverGoBack) {
  const RealClock clock;
  absl::Time last = clock.Now();
  for (int i = 0; i < 1000; ++i) {
    const absl::Time now = clock.Now();
    ASSERT_GE(now, last);
    last = now;
  }
}

TEST(RealClockTest, Now_JustMade_IsTheWallClock) {
  const absl::Time before = absl::Now();
  const RealClock clock;
  // A day: far more than a loaded machine loses between two lines, far less
  // than a clock that counts from another epoch is off.
  EXPECT_LT(absl::AbsDuration(clock.Now() - before), absl::Hours(24));
}

}  // namespace
}  // namespace koinon
