#include <algorithm>
#include <iostream>
#include <vector>

#include "dht/key.h"
#include "dht/simulation/fleet.h"
#include "dht/simulation/scenarios.h"
#include "gtest/gtest.h"

namespace koinon::dht {
namespace {

constexpr uint64_t kSeed = 1;
constexpr size_t kNodes = 1'000;

TEST(Faults, HalfOfTheNodesDieAtOnce_EveryGetSucceeds) {
  const auto fleet = StartedFleet(kSeed, kNodes);
  ASSERT_NE(fleet, nullptr);
  const GetFigures f = HalfDeadScenario(fleet.get(), 50, 2'000);
  std::cerr << "seed " << kSeed << ": found " << f.found << " of " << f.gets
            << ", ms p50/p95 " << f.milliseconds.p50 << "/"
            << f.milliseconds.p95 << "\n";
  EXPECT_EQ(f.found, f.gets);
  EXPECT_EQ(f.wrong, 0u);
  EXPECT_LE(f.milliseconds.p95, 300);
}

// Somebody waits for a get at every node, always: repair is at its slowest.
void GetForEver(SimulatedFleet* fleet, size_t i, const std::vector<Key>* keys) {
  const Key key = (*keys)[fleet->random().NextBelow(keys->size())];
  fleet->node(i).Get(key, {}, [=](const auto&) {
    // What a node holds itself it finds without asking anybody.
    fleet->network().After(absl::Milliseconds(10), [=] {
      if (fleet->alive(i)) GetForEver(fleet, i, keys);
    });
  });
}

void KillHalf(SimulatedFleet* fleet) {
  std::vector<size_t> alive = fleet->AliveHonest();
  fleet->random().Shuffle(&alive);
  for (size_t i = 0; i < alive.size() / 2; ++i) fleet->Kill(alive[i]);
}

TEST(Faults, HalfDieAndThenHalfOfTheRest_AllNodesBusyWithGets_NothingIsLost) {
  SimulatedFleet::Options options = LargeNetwork(kSeed, 40);
  options.network.mean_delay = absl::Milliseconds(150);  // fewer, longer gets
  SimulatedFleet fleet(options);
  ASSERT_TRUE(fleet.Start());
  Library library(&fleet, kSeed);
  ASSERT_EQ(library.Put(50), 50u);
  fleet.network().RunFor(absl::Seconds(5));
  KillHalf(&fleet);
  for (const size_t i : fleet.AliveHonest()) {
    GetForEver(&fleet, i, &library.keys());
  }
  fleet.network().RunFor(absl::Minutes(2));
  size_t fewest = fleet.size();
  for (const Key& key : library.keys()) {
    fewest = std::min(fewest, fleet.Holders(key).size());
  }
  std::cerr << "seed " << kSeed << ": fewest holders " << fewest << "\n";
  // Of each record's 20 holders about ten have died, of some fifteen.
  EXPECT_GE(fewest, 12u);
  KillHalf(&fleet);
  for (const Key& key : library.keys()) {
    EXPECT_FALSE(fleet.Holders(key).empty()) << key.ToHex();
  }
}

TEST(Faults, HoldersDieOneByOne_TheValueIsNeverLost) {
  const auto fleet = StartedFleet(kSeed, kNodes);
  ASSERT_NE(fleet, nullptr);
  const HolderFigures f = KilledHoldersScenario(fleet.get(), 60);
  std::cerr << "seed " << kSeed << ": killed " << f.killed << ", found "
            << f.found << " of " << f.gets << ", fewest holders "
            << f.fewest_holders << ", at the end " << f.holders_at_the_end
            << "\n";
  EXPECT_EQ(f.killed, 60u);
  EXPECT_EQ(f.first_holders_left, 0u);
  EXPECT_EQ(f.found, f.gets);
  // A death is noticed within about 35 s: 4 of the 20 are dead at any time.
  EXPECT_GE(f.fewest_holders, 10u);
}

TEST(Faults, SplitForTenMinutesAndHealed_IsOneNetworkAgain) {
  const auto fleet = StartedFleet(kSeed, kNodes);
  ASSERT_NE(fleet, nullptr);
  const SplitFigures f = SplitScenario(fleet.get(), absl::Minutes(10));
  std::cerr << "seed " << kSeed << ": recall apart " << f.recall_apart
            << ", one again after " << absl::FormatDuration(f.until_one_again)
            << ", found " << f.found << " of " << f.gets << "\n";
  // Each half saw itself only.
  EXPECT_LE(f.recall_apart, 0.6);
  EXPECT_LE(f.until_one_again, absl::Minutes(5));
  EXPECT_EQ(f.gets, 20u);
  EXPECT_EQ(f.found, f.gets);
}

TEST(Faults, FloodByOneWriter_TheOthersDoNotNotice) {
  const FloodFigures f = FloodScenario(kSeed, 100);
  std::cerr << "seed " << kSeed << ": flooded " << f.flooded << ", refused "
            << f.refused << ", stored " << f.stored << " of " << f.puts
            << ", found " << f.found << " of " << f.gets << ", most bytes "
            << f.most_bytes << "\n";
  EXPECT_GT(f.refused, 0u);
  EXPECT_EQ(f.stored, f.puts);
  EXPECT_EQ(f.found, f.gets);
  EXPECT_LE(f.most_bytes, f.bound_bytes);
}

}  // namespace
}  // namespace koinon::dht
