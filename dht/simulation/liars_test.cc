#include <iostream>

#include "dht/simulation/scenarios.h"
#include "gtest/gtest.h"

namespace koinon::dht {
namespace {

constexpr uint64_t kSeed = 1;
constexpr size_t kNodes = 1'000;
constexpr size_t kGets = 1'000;

void Print(const char* what, const GetFigures& f) {
  std::cerr << "seed " << kSeed << ", " << what << ": found " << f.found
            << " of " << f.gets << ", on the first path " << f.on_first_path
            << ", refused records " << f.refused << ", questions "
            << f.questions.p50 << "/" << f.questions.p95 << "\n";
}

TEST(Liars, FifthOfTheNodes_NothingIsMissedAndNothingForgedIsBelieved) {
  const auto fleet = StartedFleet(kSeed, kNodes);
  ASSERT_NE(fleet, nullptr);
  const LiarFigures f = LiarScenario(fleet.get(), 0.2, Lie::kMixed, 50, kGets);
  Print("stored before", f.stored);
  Print("stored while they lie", f.while_lying);
  for (const GetFigures& gets : {f.stored, f.while_lying}) {
    EXPECT_GE(gets.on_first_path, kGets * 995 / 1'000);
    EXPECT_EQ(gets.found, kGets);
    EXPECT_EQ(gets.wrong, 0u);
    EXPECT_GT(gets.refused, 0u);  // forged ones were seen
  }
}

TEST(Liars, HalfOfTheNodes_WhatWasStoredIsFoundAfterEscalation) {
  const auto fleet = StartedFleet(kSeed, kNodes);
  ASSERT_NE(fleet, nullptr);
  const LiarFigures f = LiarScenario(fleet.get(), 0.5, Lie::kMixed, 50, kGets);
  Print("stored before", f.stored);
  Print("stored while they lie", f.while_lying);
  EXPECT_GE(f.stored.found, kGets * 999 / 1'000);
  EXPECT_EQ(f.stored.wrong + f.while_lying.wrong, 0u);
}

TEST(Liars, HalfOfTheNodesCollude_WhatWasStoredIsFoundAfterEscalation) {
  const auto fleet = StartedFleet(kSeed, kNodes);
  ASSERT_NE(fleet, nullptr);
  const LiarFigures f =
      LiarScenario(fleet.get(), 0.5, Lie::kCollude, 50, kGets);
  Print("colluders, stored before", f.stored);
  Print("colluders, stored while they lie", f.while_lying);
  EXPECT_GE(f.stored.found, kGets * 999 / 1'000);
  EXPECT_EQ(f.stored.wrong + f.while_lying.wrong, 0u);
}

void Print(const char* what, const ProviderFigures& f) {
  std::cerr << "seed " << kSeed << ", " << what << ": " << f.found << " of "
            << f.searches << " searches name one who serves it; of " << f.named
            << " that were named " << f.false_ones << " do not; "
            << f.milliseconds.p50 << "/" << f.milliseconds.p95 << " ms\n";
}

constexpr size_t kProviderNodes = 400;
constexpr size_t kSearches = 500;

TEST(Liars, FifthOfTheNodesNameFalseProviders_TrueOnesAreFoundAllTheSame) {
  const auto fleet = StartedFleet(kSeed, kProviderNodes);
  ASSERT_NE(fleet, nullptr);
  const ProviderLiarFigures f =
      ProviderLiarScenario(fleet.get(), 0.2, Lie::kCollude, 50, kSearches);
  Print("announced before", f.announced);
  Print("announced while they lie", f.while_lying);
  EXPECT_EQ(f.announced.found, kSearches);
  EXPECT_EQ(f.while_lying.found, kSearches);
  EXPECT_GT(f.announced.false_ones, 0u);  // they were asked
}

// A walk that only liars lead goes astray, and nobody can tell.
TEST(Liars, HalfOfTheNodesNameFalseProviders_TrueOnesAreFoundByMost) {
  const auto fleet = StartedFleet(kSeed, kProviderNodes);
  ASSERT_NE(fleet, nullptr);
  const ProviderLiarFigures f =
      ProviderLiarScenario(fleet.get(), 0.5, Lie::kCollude, 50, kSearches);
  Print("announced before", f.announced);
  Print("announced while they lie", f.while_lying);
  EXPECT_GE(f.announced.found, kSearches * 97 / 100);
  EXPECT_GT(f.announced.false_ones, f.announced.named / 4);
}

}  // namespace
}  // namespace koinon::dht
