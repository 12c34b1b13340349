#include "dht/simulation/fleet.h"

#include <iostream>

#include "base/status_matchers.h"
#include "dht/simulation/scenarios.h"
#include "gtest/gtest.h"

namespace koinon::dht {
namespace {

TEST(SimulatedFleet, SameSeed_SameEventLog) {
  const std::string first = LogOfABusyFleet(1, 60);
  EXPECT_EQ(first, LogOfABusyFleet(1, 60));
  EXPECT_NE(first, LogOfABusyFleet(2, 60));
}

TEST(SimulatedFleet, Start_EverybodyJoinsAndTheTrueClosestAreThoseOfTheIds) {
  SimulatedFleet fleet({.seed = 3, .nodes = 30});
  ASSERT_TRUE(fleet.Start());
  const Key key = Sha256Of("somewhere");
  const std::vector<size_t> closest = fleet.TrueClosest(key, 5);
  ASSERT_EQ(closest.size(), 5u);
  for (size_t i = 0; i < fleet.size(); ++i) {
    EXPECT_TRUE(i == closest[0] ||
                Closer(key, fleet.contact(closest[0]).id, fleet.contact(i).id));
  }
  fleet.Kill(closest[0]);
  EXPECT_FALSE(fleet.alive(closest[0]));
  EXPECT_EQ(fleet.TrueClosest(key, 1)[0], closest[1]);
}

TEST(SimulatedFleet, SiblingsOfEachOther_OneOfTwoPings) {
  constexpr size_t kNodes = 30;  // all are siblings of all
  SimulatedFleet fleet({.seed = 4, .nodes = kNodes});
  ASSERT_TRUE(fleet.Start());
  fleet.network().RunFor(absl::Minutes(1));
  const int64_t before = fleet.network().messages();
  fleet.network().RunFor(absl::Minutes(5));
  // A ping and its answer twice a minute, if each of two pinged the other.
  const double both = kNodes * (kNodes - 1) * 2 * 2 * 5;
  const auto sent = static_cast<double>(fleet.network().messages() - before);
  std::cerr << "messages: " << sent << " of " << both << "\n";
  EXPECT_LE(sent, 0.7 * both);
  EXPECT_GE(sent, 0.4 * both);
}

TEST(SimulatedFleet, RecordThatManyHold_OneOfThemHandsItOnEachHour) {
  constexpr size_t kRecords = 20;
  SimulatedFleet fleet({.seed = 5, .nodes = 30});
  ASSERT_TRUE(fleet.Start());
  Library library(&fleet, 5);
  ASSERT_EQ(library.Put(kRecords), kRecords);
  fleet.network().RunFor(absl::Minutes(5 * 60 + 30));
  int64_t handed_on = 0;
  for (size_t i = 0; i < fleet.size(); ++i) {
    const auto counters = fleet.node(i).status().counters;
    const auto found = counters.find("republished");
    if (found != counters.end()) handed_on += found->second;
  }
  std::cerr << "handed on: " << handed_on << "\n";
  // The first of twenty does, an hour and a minute after the one before.
  EXPECT_GE(handed_on, static_cast<int64_t>(4 * kRecords));
  EXPECT_LE(handed_on, static_cast<int64_t>(6 * kRecords));
}

TEST(Liars, AnswerPingsAndNothingElseTruly) {
  Colluders colluders;
  for (int i = 0; i < 50; ++i) {
    colluders.Add({Sha256Of(std::to_string(i)), "liar:1", ""});
  }
  Random random(1);
  v1::AskRequest ping;
  ping.mutable_ping();
  v1::AskRequest get;
  const Key key = Sha256Of("wanted");
  get.mutable_get_record()->set_key(key.ToBytes());
  for (const Lie lie : {Lie::kDrop, Lie::kCollude, Lie::kGarbage}) {
    EXPECT_OK(AnswerFalsely(lie, colluders, ping, &random));
  }
  EXPECT_THAT(AnswerFalsely(Lie::kDrop, colluders, get, &random),
              StatusIs(absl::StatusCode::kCancelled));
  ASSERT_OK_AND_ASSIGN(const v1::AskReply collude,
                       AnswerFalsely(Lie::kCollude, colluders, get, &random));
  EXPECT_FALSE(collude.has_record());
  ASSERT_EQ(collude.closer_size(), 20);
  EXPECT_EQ(collude.closer(0).address(), "liar:1");
  ASSERT_OK_AND_ASSIGN(const v1::AskReply garbage,
                       AnswerFalsely(Lie::kGarbage, colluders, get, &random));
  EXPECT_NE(ImmutableKey(garbage.record().immutable()), key);
  EXPECT_EQ(garbage.providers_size(), 0);
  v1::AskRequest search;
  search.mutable_get_providers()->set_key(key.ToBytes());
  for (const Lie lie : {Lie::kCollude, Lie::kGarbage}) {
    ASSERT_OK_AND_ASSIGN(const v1::AskReply named,
                         AnswerFalsely(lie, colluders, search, &random));
    EXPECT_EQ(named.providers_size(), 20);
  }
}

}  // namespace
}  // namespace koinon::dht
