#include <iostream>

#include "dht/simulation/scenarios.h"
#include "gtest/gtest.h"

namespace koinon::dht {
namespace {

// Fixed seeds: the figures are the same in every run. The margin is what they
// were when the bounds were set, 0.1 % being one walk or twenty nodes.
constexpr uint64_t kSeed = 1;

TEST(Lookups, ThousandNodes_FindTheTrueClosestInFewStepsAndQuestions) {
  const auto fleet = StartedFleet(kSeed, 1'000);
  ASSERT_NE(fleet, nullptr);
  const LookupFigures f = LookUpAtRandom(fleet.get(), 10'000);
  std::cerr << "seed " << kSeed << ": nearest " << f.closest_found << " of "
            << f.lookups << ", recall " << f.recall << ", depth p50/p95 "
            << f.depth.p50 << "/" << f.depth.p95 << ", questions "
            << f.questions.p50 << "/" << f.questions.p95 << ", ms "
            << f.milliseconds.p50 << "/" << f.milliseconds.p95 << ", table "
            << f.table << "\n";
  EXPECT_GE(f.closest_found, 9'990u);
  EXPECT_GE(f.recall, 0.999);
  EXPECT_LE(f.depth.p95, 3);
  EXPECT_LE(f.questions.p95, 25);
}

TEST(Lookups, SmallFleet_EverybodyIsKnownAndEverythingIsOneStepAway) {
  const SmallFleetFigures f = SmallFleetScenario(kSeed, 128, 100, 300);
  std::cerr << "seed " << kSeed << ": table " << f.table << ", put ms "
            << f.put_milliseconds.p50 << "/" << f.put_milliseconds.p95
            << ", get ms " << f.gets.milliseconds.p50 << "/"
            << f.gets.milliseconds.p95 << ", questions " << f.gets.questions.p50
            << "/" << f.gets.questions.p95 << "\n";
  EXPECT_EQ(f.table, 127);
  EXPECT_EQ(f.stored, f.puts);
  EXPECT_EQ(f.gets.found, f.gets.gets);
  EXPECT_EQ(f.one_step_gets, 300u);
  // A question and its answer take 50 ms on average; a put is one round of
  // them, of which the eleventh fastest of twenty counts.
  EXPECT_LE(f.put_milliseconds.p95, 100);
  EXPECT_LE(f.gets.questions.p95, 6);
}

}  // namespace
}  // namespace koinon::dht
