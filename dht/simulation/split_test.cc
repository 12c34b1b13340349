// Networks whose halves hear nothing of each other for a night, and who have
// nobody but each other to find the way back by.

#include <cstdint>
#include <iostream>
#include <map>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "dht/simulation/fleet.h"
#include "dht/simulation/scenarios.h"
#include "gtest/gtest.h"

namespace koinon::dht {
namespace {

constexpr uint64_t kSeed = 1;

// `walks`: nodes know a part of the others only, as in a large network.
SimulatedFleet::Options FleetOf(size_t nodes, bool walks) {
  SimulatedFleet::Options options = LargeNetwork(kSeed, nodes);
  if (!walks) options.node.routing.full_table = 2'048;
  return options;
}

// From now on nobody remembers by whom it has joined.
void ForgetBootstraps(SimulatedFleet* fleet) {
  for (size_t i = 0; i < fleet->size(); ++i) {
    fleet->node(i).Join({}, [](const absl::Status&) {});
  }
  fleet->network().RunFor(absl::Seconds(1));
}

int64_t FailedQuestions(SimulatedFleet* fleet, size_t i) {
  const std::map<std::string, int64_t> counters =
      fleet->node(i).status().counters;
  const auto failed = counters.find("failed_questions");
  return failed == counters.end() ? 0 : failed->second;
}

struct Night {
  size_t nodes;
  absl::Duration heals_within;
};

class OverNightTest : public testing::TestWithParam<Night> {};

TEST_P(OverNightTest, SmallFleetWithoutBootstraps_AllKnowAllSoon) {
  const size_t nodes = GetParam().nodes;
  SimulatedFleet fleet(FleetOf(nodes, /*walks=*/false));
  ASSERT_TRUE(fleet.Start());
  ForgetBootstraps(&fleet);
  const auto known_by_each = [&](size_t others) {
    for (size_t i = 0; i < nodes; ++i) {
      if (fleet.node(i).table().size() != others) return false;
    }
    return true;
  };
  ASSERT_TRUE(known_by_each(nodes - 1));
  for (size_t i = 0; i < nodes; ++i) fleet.SetGroup(i, i % 2);
  fleet.network().RunFor(absl::Hours(12));
  EXPECT_TRUE(known_by_each(nodes / 2 - 1));
  for (size_t i = 0; i < nodes; ++i) fleet.SetGroup(i, 0);
  const absl::Time healed = fleet.network().Now();
  EXPECT_TRUE(fleet.network().RunUntilTrue(
      [&] { return known_by_each(nodes - 1); }, GetParam().heals_within))
      << "seed " << kSeed;
  std::cerr << "seed " << kSeed << ": one again after "
            << absl::FormatDuration(fleet.network().Now() - healed) << "\n";
}

// One that was alone asks within two minutes or so. One that was not asks each
// of the others every ten minutes, or in turn with its neighbours; and whoever
// is not found so has found others.
INSTANTIATE_TEST_SUITE_P(Fleets, OverNightTest,
                         testing::Values(Night{2, absl::Minutes(3)},
                                         Night{4, absl::Minutes(11)},
                                         Night{24, absl::Minutes(11)}),
                         [](const auto& info) {
                           return absl::StrCat("Of", info.param.nodes);
                         });

TEST(OverNight, LargeNetworkWithoutBootstraps_FindsAcrossAgain) {
  SimulatedFleet fleet(FleetOf(24, /*walks=*/true));
  ASSERT_TRUE(fleet.Start());
  ForgetBootstraps(&fleet);
  const SplitFigures f = SplitScenario(&fleet, absl::Hours(12));
  std::cerr << "seed " << kSeed << ": recall apart " << f.recall_apart
            << ", one again after " << absl::FormatDuration(f.until_one_again)
            << ", found " << f.found << " of " << f.gets << "\n";
  EXPECT_LE(f.recall_apart, 0.7);
  EXPECT_LE(f.until_one_again, absl::Minutes(10));
  EXPECT_EQ(f.gets, 20u);
  EXPECT_EQ(f.found, f.gets);
}

TEST(DeadForEver, HalfOfTheNodes_CostTheOthersAFewQuestionsAnHour) {
  SimulatedFleet fleet(FleetOf(24, /*walks=*/false));
  ASSERT_TRUE(fleet.Start());
  for (size_t i = 12; i < 24; ++i) fleet.Kill(i);
  fleet.network().RunFor(absl::Hours(1));
  int64_t before[12];
  for (size_t i = 0; i < 12; ++i) {
    before[i] = FailedQuestions(&fleet, i);
    // At most one in five seconds, and what noticing them took.
    EXPECT_LE(before[i], 720 + 12 * 10) << "seed " << kSeed;
  }
  fleet.network().RunFor(absl::Hours(10));
  for (size_t i = 0; i < 12; ++i) {
    const int64_t asked = FailedQuestions(&fleet, i) - before[i];
    // One in two minutes at most; a node asks its living neighbours hundreds of
    // questions an hour.
    EXPECT_LE(asked, 10 * 30 + 1) << "seed " << kSeed << ", node " << i;
    EXPECT_GE(asked, 10 * 12) << "seed " << kSeed << ", node " << i;
  }
}

TEST(DeadForEver, AWeekLater_NobodyAsksThem) {
  SimulatedFleet fleet(FleetOf(4, /*walks=*/false));
  ASSERT_TRUE(fleet.Start());
  fleet.Kill(2);
  fleet.Kill(3);
  fleet.network().RunFor(absl::Hours(7 * 24 + 1));
  const int64_t before = FailedQuestions(&fleet, 0);
  EXPECT_GE(before, 7 * 24 * 6);
  fleet.network().RunFor(absl::Hours(3));
  EXPECT_EQ(FailedQuestions(&fleet, 0), before) << "seed " << kSeed;
}

TEST(DeadForEver, All_AreAskedEveryFewMinutesByOneThatIsAlone) {
  SimulatedFleet fleet(FleetOf(5, /*walks=*/false));
  ASSERT_TRUE(fleet.Start());
  ForgetBootstraps(&fleet);
  for (size_t i = 1; i < 5; ++i) fleet.Kill(i);
  fleet.network().RunFor(absl::Hours(5));
  const int64_t before = FailedQuestions(&fleet, 0);
  fleet.network().RunFor(absl::Hours(8 * 24));
  const int64_t asked = FailedQuestions(&fleet, 0) - before;
  // Each of the four every two minutes, a fifth more or less.
  const double rounds = 8 * 24 * 30;
  EXPECT_LE(static_cast<double>(asked), 4 * rounds / 0.8) << "seed " << kSeed;
  EXPECT_GE(static_cast<double>(asked), 4 * rounds / 1.2) << "seed " << kSeed;
}

}  // namespace
}  // namespace koinon::dht
