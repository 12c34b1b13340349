// What leaves an origin, over many random swarms: at most two copies of each
// piece while others can provide the rest, and what is more has its reason.
#include <gtest/gtest.h>

#include <string>

#include "base/random.h"
#include "dht/swarm/testing_swarm.h"

namespace koinon::dht {
namespace {

constexpr size_t kCopies = 2;
constexpr uint64_t kSeeds = 100;

SwarmMake Draw(uint64_t seed) {
  Random random(seed);
  SwarmMake make;
  make.seed = seed;
  make.peers = 2 + random.NextBelow(24);
  make.pieces = 4 + random.NextBelow(40);
  make.sites = 1 + random.NextBelow(4);
  make.uplink = 1 + random.NextBelow(4);
  if (random.NextBelow(3) > 0) make.crossing = random.NextBelow(3) / 2.0;
  if (random.NextBelow(2) > 0) make.late = 0.5;
  return make;
}

// Nobody breaks the law, and all who are there get everything.
SwarmGiven Spread(const SwarmMake& make) {
  const SwarmGiven given = SpreadInRandomSwarm(make);
  EXPECT_TRUE(given.all_done);
  for (const std::string& wrong : given.wrong) ADD_FAILURE() << wrong;
  return given;
}

template <typename Check>
void ForAllSeeds(Check check) {
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const SwarmMake make = Draw(seed);
    check(make);
  }
}

// Of all swarms together.
SwarmGiven& operator+=(SwarmGiven& sum, const SwarmGiven& more) {
  sum.chosen += more.chosen;
  sum.to_leeches += more.to_leeches;
  sum.scarce += more.scarce;
  sum.out_of_reach += more.out_of_reach;
  sum.starved += more.starved;
  return sum;
}

TEST(SwarmPropertyTest, NothingGoesWrong_TwoCopiesForEachGroupAndNoMore) {
  ForAllSeeds([](const SwarmMake& make) {
    SCOPED_TRACE(testing::Message() << make);
    const SwarmGiven given = Spread(make);
    // Those that keep to a site are one, those that cross are another.
    const size_t groups = make.crossing == 0   ? make.sites
                          : make.crossing == 1 ? 1
                                               : make.sites + 1;
    EXPECT_LE(given.chosen, kCopies * make.pieces * groups);
    EXPECT_GE(given.chosen, make.pieces);
    EXPECT_EQ(given.last_resorts(), 0u);
  });
}

TEST(SwarmPropertyTest, Leeches_AreLeftToThoseWhoServe) {
  SwarmGiven sum;
  ForAllSeeds([&](SwarmMake make) {
    make.leeches = 0.4;
    SCOPED_TRACE(testing::Message() << make);
    const SwarmGiven given = Spread(make);
    EXPECT_EQ(given.last_resorts(), 0u);
    sum += given;
  });
  // Where nobody serves, or did not yet.
  EXPECT_GT(sum.to_leeches, 0u);
  EXPECT_LT(sum.to_leeches, sum.chosen);
}

TEST(SwarmPropertyTest, SlowPeers_LastResortsGoOnlyToWhoStarves) {
  SwarmGiven sum;
  ForAllSeeds([&](SwarmMake make) {
    make.slow = 0.3;
    SCOPED_TRACE(testing::Message() << make);
    sum += Spread(make);
  });
  EXPECT_GT(sum.starved, 0u);
  EXPECT_LT(sum.starved, sum.chosen / 100);
  EXPECT_EQ(sum.last_resorts(), sum.starved);
}

TEST(SwarmPropertyTest, Churn_CopiesThatWereLostAreGivenAgainAndNoOthers) {
  SwarmGiven sum;
  ForAllSeeds([&](SwarmMake make) {
    make.killed = 0.002;
    make.broken = 0.002;
    SCOPED_TRACE(testing::Message() << make);
    sum += Spread(make);
  });
  EXPECT_LT(sum.last_resorts(), sum.chosen / 100);
}

TEST(SwarmPropertyTest, EverythingAtOnce_EachCopyHasItsReason) {
  SwarmGiven sum;
  ForAllSeeds([&](SwarmMake make) {
    make.leeches = 0.2;
    make.slow = 0.2;
    make.cut_off = 0.15;
    make.killed = 0.001;
    make.broken = 0.001;
    SCOPED_TRACE(testing::Message() << make);
    sum += Spread(make);
  });
  // Each kind of reason has been put to the test.
  EXPECT_GT(sum.to_leeches, 0u);
  EXPECT_GT(sum.scarce, 0u);
  EXPECT_GT(sum.out_of_reach, 0u);
  EXPECT_GT(sum.starved, 0u);
}

}  // namespace
}  // namespace koinon::dht
