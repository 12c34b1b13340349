#include <iostream>

#include "dht/simulation/scenarios.h"
#include "gtest/gtest.h"

namespace koinon::dht {
namespace {

constexpr uint64_t kSeed = 1;

TEST(Churn, TenthOfTheNodesEachMinuteForAnHour_LosesNothing) {
  const auto fleet = StartedFleet(kSeed, 1'000);
  ASSERT_NE(fleet, nullptr);
  const ChurnFigures f =
      ChurnScenario(fleet.get(), 0.1, absl::Minutes(60), 100);
  std::cerr << "seed " << kSeed << ": stored " << f.stored << ", found "
            << f.found << " of " << f.gets << ", lost " << f.lost
            << ", found after expiry " << f.outlived << " of " << f.expired_gets
            << ", replaced nodes " << f.replaced_nodes << "\n";
  EXPECT_EQ(f.stored, 100u);
  EXPECT_GE(f.replaced_nodes, 5'500u);
  EXPECT_GE(f.found, f.gets - f.gets / 1'000);
  EXPECT_EQ(f.lost, 0u);
  EXPECT_GT(f.expired_gets, 0u);
  EXPECT_EQ(f.outlived, 0u);
}

}  // namespace
}  // namespace koinon::dht
