#include "dht/query/answer_times.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/random.h"
#include "gtest/gtest.h"

namespace koinon::dht {
namespace {

TEST(AnswerTimesTest, New_NothingHeard_UpperBounds) {
  const AnswerTimes times({});
  EXPECT_EQ(times.timeout(), absl::Seconds(1));
  EXPECT_EQ(times.hedge(), absl::Milliseconds(500));
}

TEST(AnswerTimesTest, Add_TooFew_NothingIsConcluded) {
  AnswerTimes times({.enough = 3});
  times.Add(absl::Milliseconds(40));
  times.Add(absl::Milliseconds(40));
  EXPECT_EQ(times.timeout(), absl::Seconds(1));
  EXPECT_EQ(times.hedge(), absl::Milliseconds(500));
  times.Add(absl::Milliseconds(40));
  EXPECT_EQ(times.timeout(), absl::Milliseconds(120));
  EXPECT_EQ(times.hedge(), absl::Milliseconds(40));
}

TEST(AnswerTimesTest, Add_FastOrSlowAnswers_WithinTheBounds) {
  AnswerTimes fast({.enough = 1});
  fast.Add(absl::Microseconds(300));
  EXPECT_EQ(fast.timeout(), absl::Milliseconds(50));
  EXPECT_EQ(fast.hedge(), absl::Microseconds(300));
  AnswerTimes slow({.enough = 1});
  slow.Add(absl::Hours(10'000));
  EXPECT_EQ(slow.timeout(), absl::Seconds(1));
  EXPECT_EQ(slow.hedge(), absl::Milliseconds(500));
}

TEST(AnswerTimesTest, Add_NegativeOrInfinite_CountsAsTheNearestPossible) {
  AnswerTimes times({.window = 1, .enough = 1});
  times.Add(-absl::Seconds(1));
  EXPECT_EQ(times.hedge(), absl::ZeroDuration());
  times.Add(absl::InfiniteDuration());
  EXPECT_EQ(times.timeout(), absl::Seconds(1));
  times.Add(-absl::InfiniteDuration());
  EXPECT_EQ(times.hedge(), absl::ZeroDuration());
}

TEST(AnswerTimesTest, Add_LateAnswers_TheTimeoutGrowsAgain) {
  AnswerTimes times({.window = 100, .enough = 1});
  for (int i = 0; i < 100; ++i) times.Add(absl::Milliseconds(20));
  EXPECT_EQ(times.timeout(), absl::Milliseconds(60));
  for (int i = 0; i < 2; ++i) times.Add(absl::Milliseconds(200));
  EXPECT_EQ(times.timeout(), absl::Milliseconds(600));
  // They leave the window again.
  for (int i = 0; i < 99; ++i) times.Add(absl::Milliseconds(20));
  EXPECT_EQ(times.timeout(), absl::Milliseconds(60));
}

TEST(AnswerTimesTest, Add_RandomTimes_PercentilesOfTheWindow) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Random random(seed);
    AnswerTimes::Options options;
    options.window = 1 + random.NextBelow(300);
    options.enough = 1;
    options.min_timeout = absl::ZeroDuration();
    options.max_timeout = options.max_hedge = absl::InfiniteDuration();
    AnswerTimes times(options);
    std::vector<int64_t> all;
    const size_t count = 1 + random.NextBelow(600);
    for (size_t i = 0; i < count; ++i) {
      all.push_back(random.NextBelow(random.NextBelow(2) == 0 ? 10 : 100'000));
      times.Add(absl::Microseconds(all.back()));
    }
    if (all.size() > options.window) {
      all.erase(all.begin(), all.end() - options.window);
    }
    std::sort(all.begin(), all.end());
    // The smallest that at least 95 (99) of 100 do not exceed.
    const auto percentile = [&](size_t percent) {
      for (size_t i = 0;; ++i) {
        if (100 * (i + 1) >= percent * all.size()) {
          return absl::Microseconds(all[i]);
        }
      }
    };
    EXPECT_EQ(times.hedge(), percentile(95));
    EXPECT_EQ(times.timeout(), 3 * percentile(99));
  }
}

}  // namespace
}  // namespace koinon::dht
