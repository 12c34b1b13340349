#include "base/clock_watch.h"

#include <gtest/gtest.h>

namespace koinon {
namespace {

constexpr absl::Time kNoon = absl::FromUnixSeconds(1'000'000);

TEST(ClockDriftTest, ClocksThatAgreeOrSlew_AreNoNews) {
  ClockDrift drift;
  EXPECT_EQ(drift.News(kNoon, kNoon), absl::ZeroDuration());
  EXPECT_EQ(drift.News(kNoon, kNoon + absl::Seconds(59)), absl::ZeroDuration());
  EXPECT_EQ(drift.News(kNoon, kNoon - absl::Seconds(59)), absl::ZeroDuration());
}

TEST(ClockDriftTest, Step_IsToldOnce) {
  ClockDrift drift;
  EXPECT_EQ(drift.News(kNoon, kNoon + absl::Hours(1)), absl::Hours(1));
  EXPECT_EQ(drift.News(kNoon, kNoon + absl::Hours(1) + absl::Seconds(2)),
            absl::ZeroDuration());
}

TEST(ClockDriftTest, StepBack_IsNegative) {
  ClockDrift drift;
  EXPECT_EQ(drift.News(kNoon, kNoon - absl::Hours(2)), -absl::Hours(2));
}

TEST(ClockDriftTest, SecondStep_IsToldAsTheWhole) {
  ClockDrift drift;
  drift.News(kNoon, kNoon + absl::Hours(1));
  EXPECT_EQ(drift.News(kNoon, kNoon + absl::Hours(3)), absl::Hours(3));
}

TEST(ClockDriftTest, StepThatWasTakenBack_IsForgotten) {
  ClockDrift drift;
  drift.News(kNoon, kNoon + absl::Hours(1));
  EXPECT_EQ(drift.News(kNoon, kNoon), absl::ZeroDuration());
  EXPECT_EQ(drift.News(kNoon, kNoon + absl::Hours(1)), absl::Hours(1));
}

// That it ends at once, whatever its interval.
TEST(ClockWatchTest, LongInterval_DoesNotHoldUpTheEnd) {
  const RealClock clock;
  const ClockWatch watch(&clock, absl::Hours(24));
}

}  // namespace
}  // namespace koinon
