#include "tools/bench/swarm_simulation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <iostream>

#include "base/status_matchers.h"

namespace koinon::bench {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::StatusIs;
using ::testing::HasSubstr;

SwarmSimulationReport Spread(const SwarmSimulationOptions& options) {
  const auto report = RunSwarmSimulation(options);
  EXPECT_THAT(report, IsOk());
  std::cout << SwarmSimulationHeading() << "\n"
            << SwarmSimulationLine(*report) << "\n";
  EXPECT_EQ(report->finished, report->survivors);
  EXPECT_EQ(report->wasted, 0);
  return *report;
}

// The slots over the lower bound, and the copies that leave the origin, are the
// project's targets (1.25 and 2.0); what comes out is nearer to the bound.
class SpreadTest : public ::testing::TestWithParam<size_t> {};

TEST_P(SpreadTest, AnyNumberOfPeers_ComesNearTheBound) {
  for (const size_t uplink : {1, 4}) {
    const SwarmSimulationReport report =
        Spread({.peers = GetParam(), .origin_uplink = uplink});
    EXPECT_EQ(report.survivors, GetParam());
    EXPECT_GE(report.p50, 256);
    EXPECT_LE(report.max, 1.25 * report.bound);
    EXPECT_GE(report.copies, 1);
    EXPECT_LE(report.copies, 2);
    EXPECT_EQ(report.last_resort_copies, 0);
  }
}
INSTANTIATE_TEST_SUITE_P(Peers, SpreadTest, ::testing::Values(10, 100, 1000));

TEST(SwarmSimulationTest, OnePeer_GetsAllFromTheOrigin) {
  const SwarmSimulationReport report = Spread({.peers = 1});
  EXPECT_EQ(report.max, 256);
  EXPECT_EQ(report.copies, 1);
}

TEST(SwarmSimulationTest, SlowLinks_NobodyIsServedAsLastResort) {
  // A slot longer than the patience of those that get nothing: until the first
  // pieces have been passed on, nearly all get nothing.
  const SwarmSimulationReport report =
      Spread({.peers = 300, .slot = absl::Seconds(5)});
  EXPECT_LE(report.max, 1.25 * report.bound);
  EXPECT_LE(report.copies + report.last_resort_copies, 2);
}

TEST(SwarmSimulationTest, SlowPeers_HoldTheOthersUpLittle) {
  const SwarmSimulationReport alike = Spread({.peers = 300});
  const SwarmSimulationReport slow = Spread({.peers = 300, .slow = 0.2});
  // What all can send together is less by 18 %.
  EXPECT_LE(slow.fast_p50, 1.18 * alike.p50);
  // Whoever has many slow neighbours is sent to first by the others.
  EXPECT_LE(slow.max, 1.4 * slow.bound);
  EXPECT_LE(slow.copies + slow.last_resort_copies, 2);
}

TEST(SwarmSimulationTest, DyingPeers_SurvivorsAllFinish) {
  for (const uint64_t seed : {1, 2, 3}) {
    const SwarmSimulationReport report =
        Spread({.peers = 300, .dying = 0.3, .seed = seed});
    EXPECT_EQ(report.survivors, 210u);
    EXPECT_LE(report.max, 1.4 * report.bound);
    EXPECT_LE(report.copies + report.last_resort_copies, 2);
  }
}

TEST(SwarmSimulationTest, MostPeersDie_SurvivorsAllFinish) {
  const SwarmSimulationReport report =
      Spread({.peers = 300, .dying = 0.8, .seed = 4});
  EXPECT_EQ(report.survivors, 60u);
}

TEST(SwarmSimulationTest, SameSeed_GivesTheSameReport) {
  const SwarmSimulationOptions options = {
      .peers = 50, .slow = 0.1, .dying = 0.2, .seed = 8};
  SwarmSimulationReport a = Spread(options);
  SwarmSimulationReport b = Spread(options);
  a.seconds = b.seconds = 0;
  EXPECT_EQ(SwarmSimulationLine(a), SwarmSimulationLine(b));
}

TEST(SwarmSimulationTest, BadOptions_AreRefusedByName) {
  const auto refuses = [](const SwarmSimulationOptions& options,
                          const char* what) {
    EXPECT_THAT(RunSwarmSimulation(options),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(what)));
  };
  refuses({.peers = 0}, "peers: at least 1 expected, found 0");
  refuses({.pieces = 0}, "pieces");
  refuses({.degree = 0}, "degree");
  refuses({.origin_uplink = 0}, "origin_uplink");
  refuses({.copies = 0}, "copies");
  refuses({.in_flight = 0}, "in_flight");
  refuses({.slow = 1}, "slow: a part in [0, 1) expected, found 1");
  refuses({.dying = -0.1}, "dying");
  refuses({.slot = absl::ZeroDuration()}, "slot");
}

}  // namespace
}  // namespace koinon::bench
