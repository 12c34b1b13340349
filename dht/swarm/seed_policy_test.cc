#include "dht/swarm/seed_policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>

#include "base/random.h"

namespace koinon::dht {
namespace {

using ::testing::Each;
using ::testing::ElementsAreArray;
using ::testing::Eq;
using ::testing::SizeIs;

Bitmap All(size_t size) {
  Bitmap bitmap(size);
  for (size_t i = 0; i < size; ++i) bitmap.Set(i);
  return bitmap;
}

// How often each piece was given, to all that ask in turns until nobody is
// given any more. Nothing arrives.
std::map<uint32_t, int> GiveAll(SeedPolicy* policy,
                                const std::vector<uint64_t>& peers) {
  std::map<uint32_t, int> given;
  for (bool any = true; any;) {
    any = false;
    for (const uint64_t peer : peers) {
      const auto piece = policy->Choose(peer);
      if (!piece.has_value()) continue;
      ++given[*piece];
      any = true;
    }
  }
  return given;
}

std::vector<int> Counts(const std::map<uint32_t, int>& given) {
  std::vector<int> counts;
  for (const auto& [piece, count] : given) counts.push_back(count);
  return counts;
}

TEST(SeedPolicyTest, Choose_OneIsland_GivesTwoCopiesAndNoMore) {
  SeedPolicy policy({.pieces = 5, .copies = 2});
  for (const uint64_t peer : {1, 2, 3}) {
    policy.AddPeer(peer, {}, true, Bitmap(5));
  }
  const auto given = GiveAll(&policy, {1, 2, 3});
  EXPECT_THAT(given, SizeIs(5));
  EXPECT_THAT(Counts(given), Each(Eq(2)));
  EXPECT_EQ(policy.chosen(), 10);
  EXPECT_EQ(policy.granted(), 0);
}

TEST(SeedPolicyTest, Choose_LeastGivenFirst) {
  SeedPolicy policy({.pieces = 6, .copies = 2});
  policy.AddPeer(1, {}, true, Bitmap(6));
  policy.AddPeer(2, {}, true, Bitmap(6));
  std::set<uint32_t> first;
  for (int i = 0; i < 6; ++i) first.insert(*policy.Choose(1 + i % 2));
  EXPECT_THAT(first, SizeIs(6));  // each once before any twice
}

TEST(SeedPolicyTest, Choose_FewestHoldersFirst) {
  SeedPolicy policy({.pieces = 3, .copies = 3});
  policy.AddPeer(1, {}, true, Bitmap(3));
  policy.AddPeer(2, {}, true, Bitmap(3));
  policy.OnHave(2, 0);
  policy.OnHave(2, 2);
  EXPECT_EQ(policy.Choose(1), 1u);
}

TEST(SeedPolicyTest, Choose_OnePeer_GetsAllOnce) {
  SeedPolicy policy({.pieces = 4});
  policy.AddPeer(1, {}, true, Bitmap(4));
  EXPECT_THAT(Counts(GiveAll(&policy, {1})), ElementsAreArray({1, 1, 1, 1}));
}

TEST(SeedPolicyTest, Choose_WhatItHas_IsNotGiven) {
  SeedPolicy policy({.pieces = 3});
  Bitmap have(3);
  have.Set(0);
  policy.AddPeer(1, {}, true, have);
  policy.OnHave(1, 2);
  EXPECT_EQ(policy.Choose(1), 1u);
  EXPECT_EQ(policy.Choose(1), std::nullopt);
}

TEST(SeedPolicyTest, Choose_HeldByPeers_IsNotGiven) {
  SeedPolicy policy({.pieces = 2, .copies = 2});
  policy.AddPeer(1, {}, true, All(2));
  policy.AddPeer(2, {}, true, Bitmap(2));
  policy.OnHave(2, 0);  // from a peer
  policy.AddPeer(3, {}, true, Bitmap(2));
  EXPECT_EQ(policy.Choose(3), 1u);
  EXPECT_EQ(policy.Choose(3), std::nullopt);
}

TEST(SeedPolicyTest, Choose_Islands_CountEachForItself) {
  SeedPolicy policy({.pieces = 4, .copies = 2});
  for (uint64_t peer = 1; peer <= 9; ++peer) {
    policy.AddPeer(peer,
                   {.site = peer % 3 == 0   ? "a"
                            : peer % 3 == 1 ? "b"
                                            : "c"},
                   true, Bitmap(4));
  }
  const auto given = GiveAll(&policy, {1, 2, 3, 4, 5, 6, 7, 8, 9});
  EXPECT_THAT(Counts(given), Each(Eq(6)));
}

TEST(SeedPolicyTest, Choose_WhoCrossesSites_CountTogether) {
  SeedPolicy policy({.pieces = 4, .copies = 2});
  std::vector<uint64_t> peers;
  for (uint64_t peer = 1; peer <= 9; ++peer) {
    policy.AddPeer(peer, {.site = std::to_string(peer % 3), .crosses = true},
                   true, Bitmap(4));
    peers.push_back(peer);
  }
  EXPECT_THAT(Counts(GiveAll(&policy, peers)), Each(Eq(2)));
}

TEST(SeedPolicyTest, Choose_WhatASiteHas_IsNotGivenToWhoeverCrossesFromIt) {
  SeedPolicy policy({.pieces = 3, .copies = 1});
  policy.AddPeer(1, {.site = "a"}, true, All(3));  // for its own site only
  policy.AddPeer(2, {.site = "a", .crosses = true}, true, Bitmap(3));
  policy.AddPeer(3, {.site = "b", .crosses = true}, true, Bitmap(3));
  EXPECT_EQ(policy.Choose(2), std::nullopt);
  EXPECT_THAT(GiveAll(&policy, {3}), SizeIs(3));
  // What comes over the border is there for those who do not cross it.
  policy.AddPeer(4, {.site = "b"}, true, Bitmap(3));
  EXPECT_EQ(policy.Choose(4), std::nullopt);
  policy.RemovePeer(3, /*lost=*/true);
  EXPECT_THAT(GiveAll(&policy, {4}), SizeIs(3));
}

TEST(SeedPolicyTest, Choose_WhoServesNobodyAndCrosses_IsLeftToOtherSites) {
  SeedPolicy policy({.pieces = 2, .copies = 2});
  policy.AddPeer(1, {.site = "a", .crosses = true}, false, Bitmap(2));
  policy.AddPeer(2, {.site = "a"}, false, Bitmap(2));
  policy.AddPeer(3, {.site = "b"}, true, Bitmap(2));
  EXPECT_THAT(GiveAll(&policy, {1}), SizeIs(2));
  policy.AddPeer(4, {.site = "b", .crosses = true}, true, Bitmap(2));
  policy.AddPeer(5, {.site = "c", .crosses = true}, false, Bitmap(2));
  EXPECT_EQ(policy.Choose(5), std::nullopt);
  EXPECT_THAT(GiveAll(&policy, {2}), SizeIs(2));  // alone in its site
  policy.AddPeer(6, {.site = "a"}, true, Bitmap(2));
  policy.AddPeer(7, {.site = "a"}, false, Bitmap(2));
  EXPECT_EQ(policy.Choose(7), std::nullopt);
}

TEST(SeedPolicyTest, Choose_PeersThatServeNobody_AreLeftToThoseThatDo) {
  SeedPolicy policy({.pieces = 3, .copies = 2});
  policy.AddPeer(1, {}, false, Bitmap(3));
  policy.AddPeer(2, {}, false, Bitmap(3));
  EXPECT_THAT(Counts(GiveAll(&policy, {1, 2})), Each(Eq(2)));
  policy.AddPeer(3, {}, false, Bitmap(3));
  policy.AddPeer(4, {}, true, Bitmap(3));
  EXPECT_EQ(policy.Choose(3), std::nullopt);
  EXPECT_THAT(Counts(GiveAll(&policy, {4})), ElementsAreArray({1, 1, 1}));
  policy.RemovePeer(4, /*lost=*/true);
  EXPECT_TRUE(policy.Choose(3).has_value());
}

TEST(SeedPolicyTest, RemovePeer_Lost_ItsCopiesAreGivenAgain) {
  SeedPolicy policy({.pieces = 4, .copies = 1});
  policy.AddPeer(1, {}, true, Bitmap(4));
  policy.AddPeer(2, {}, true, Bitmap(4));
  EXPECT_THAT(GiveAll(&policy, {1}), SizeIs(4));
  for (uint32_t piece = 0; piece < 3; ++piece) policy.OnHave(1, piece);
  EXPECT_EQ(policy.Choose(2), std::nullopt);
  policy.RemovePeer(1, /*lost=*/true);
  EXPECT_THAT(GiveAll(&policy, {2}), SizeIs(4));
}

TEST(SeedPolicyTest, RemovePeer_FinishedAndServing_ItsCopiesCount) {
  SeedPolicy policy({.pieces = 4, .copies = 1});
  policy.AddPeer(1, {}, true, All(4));
  policy.AddPeer(2, {}, true, Bitmap(4));
  policy.RemovePeer(1, /*lost=*/false);
  EXPECT_EQ(policy.Choose(2), std::nullopt);
  policy.RemovePeer(1, /*lost=*/true);  // now it has died
  EXPECT_TRUE(policy.Choose(2).has_value());
}

TEST(SeedPolicyTest, RemovePeer_OnItsWay_DoesNotCountAnyMore) {
  SeedPolicy policy({.pieces = 1, .copies = 1});
  policy.AddPeer(1, {}, true, Bitmap(1));
  policy.AddPeer(2, {}, true, Bitmap(1));
  ASSERT_EQ(policy.Choose(1), 0u);
  EXPECT_EQ(policy.Choose(2), std::nullopt);
  policy.RemovePeer(1, /*lost=*/false);
  EXPECT_EQ(policy.Choose(2), 0u);
}

TEST(SeedPolicyTest, AddPeer_Again_CountsOnce) {
  SeedPolicy policy({.pieces = 1, .copies = 2});
  policy.AddPeer(1, {}, true, All(1));
  policy.RemovePeer(1, /*lost=*/false);
  policy.AddPeer(1, {}, true, All(1));
  policy.AddPeer(2, {}, true, Bitmap(1));
  EXPECT_EQ(policy.Choose(2), 0u);
}

TEST(SeedPolicyTest, OnBroken_IsGivenAgain) {
  SeedPolicy policy({.pieces = 1, .copies = 1});
  policy.AddPeer(1, {}, true, Bitmap(1));
  policy.AddPeer(2, {}, true, Bitmap(1));
  ASSERT_EQ(policy.Choose(1), 0u);
  policy.OnBroken(1, 0);
  EXPECT_EQ(policy.Choose(2), 0u);
  policy.OnBroken(1, 0);  // nothing is on its way there
  EXPECT_EQ(policy.Choose(1), std::nullopt);
}

TEST(SeedPolicyTest, Grant_WhatNobodyElseCanGive_IsGivenAtOnce) {
  SeedPolicy policy({.pieces = 2, .copies = 1});
  policy.AddPeer(1, {}, true, Bitmap(2));
  EXPECT_TRUE(policy.Grant(1, 1));
  EXPECT_FALSE(policy.Grant(1, 1));  // on its way
  policy.OnHave(1, 1);
  EXPECT_FALSE(policy.Grant(1, 1));
  EXPECT_EQ(policy.granted(), 1);
  EXPECT_EQ(policy.chosen(), 0);
}

TEST(SeedPolicyTest, Grant_WhatOthersHold_HasToBeAskedForAgain) {
  SeedPolicy policy({.pieces = 9, .copies = 1, .refusals = 2});
  policy.AddPeer(1, {}, true, All(9));
  policy.AddPeer(2, {}, true, Bitmap(9));
  EXPECT_FALSE(policy.Grant(2, 0));
  EXPECT_FALSE(policy.Grant(2, 1));
  EXPECT_TRUE(policy.Grant(2, 2));
  EXPECT_TRUE(policy.Grant(2, 3));
  policy.OnHave(2, 2);  // what it was granted
  EXPECT_TRUE(policy.Grant(2, 4));
  policy.OnHave(2, 8);  // a peer gave it that
  EXPECT_FALSE(policy.Grant(2, 5));
}

TEST(SeedPolicyTest, UnknownPeersAndPieces_AreIgnored) {
  SeedPolicy policy({.pieces = 2});
  policy.OnHave(1, 0);
  policy.OnBroken(1, 0);
  policy.RemovePeer(1, true);
  EXPECT_EQ(policy.Choose(1), std::nullopt);
  EXPECT_FALSE(policy.Grant(1, 0));
  policy.AddPeer(1, {}, true, Bitmap(2));
  policy.OnHave(1, 2);
  EXPECT_FALSE(policy.Grant(1, 2));
}

TEST(SeedPolicyTest, Ties_AreDrawnBySeed) {
  const auto order = [](uint64_t seed) {
    SeedPolicy policy({.pieces = 50, .seed = seed});
    policy.AddPeer(1, {}, true, Bitmap(50));
    std::vector<uint32_t> pieces;
    while (const auto piece = policy.Choose(1)) pieces.push_back(*piece);
    return pieces;
  };
  EXPECT_EQ(order(1), order(1));
  EXPECT_NE(order(1), order(2));
}

// Peers of some islands, which take from the origin what it gives and from each
// other at random; some may be lost on the way.
struct Outcome {
  int64_t given = 0;
  bool all_done = false;
};
Outcome Exchange(uint64_t seed, size_t pieces, size_t islands, bool losses) {
  Random random(seed);
  SeedPolicy policy({.pieces = pieces, .copies = 2, .seed = seed});
  std::map<uint64_t, Bitmap> peers;
  const auto island_of = [&](uint64_t peer) { return peer % islands; };
  for (uint64_t peer = 0; peer < 5 * islands; ++peer) {
    peers.emplace(peer, Bitmap(pieces));
    policy.AddPeer(peer, {.site = std::to_string(island_of(peer))}, true,
                   Bitmap(pieces));
  }
  const auto arrive = [&](uint64_t peer, uint32_t piece) {
    peers.at(peer).Set(piece);
    policy.OnHave(peer, piece);
  };
  Outcome outcome;
  for (int step = 0; step < 40000 && !outcome.all_done; ++step) {
    auto it = peers.begin();
    std::advance(it, random.NextBelow(peers.size()));
    const uint64_t peer = it->first;
    const uint32_t piece = static_cast<uint32_t>(random.NextBelow(pieces));
    auto from = peers.begin();
    std::advance(from, random.NextBelow(peers.size()));
    if (random.NextBelow(3) == 0) {
      const auto chosen = policy.Choose(peer);
      if (chosen.has_value() && losses && random.NextBelow(8) == 0) {
        policy.OnBroken(peer, *chosen);
      } else if (chosen.has_value()) {
        arrive(peer, *chosen);
      }
    } else if (island_of(from->first) == island_of(peer) &&
               from->second.Has(piece) && !it->second.Has(piece)) {
      arrive(peer, piece);
    }
    if (losses && random.NextBelow(200) == 0 && peers.size() > islands) {
      policy.RemovePeer(peer, /*lost=*/true);
      peers.erase(peer);
    }
    outcome.all_done = true;
    for (const auto& [id, have] : peers) outcome.all_done &= have.full();
  }
  outcome.given = policy.chosen();
  return outcome;
}

TEST(SeedPolicyPropertyTest, NoLosses_AtMostTwoCopiesForEachIsland) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    const size_t islands = 1 + seed % 3;
    const Outcome outcome = Exchange(seed, 30, islands, /*losses=*/false);
    EXPECT_TRUE(outcome.all_done);
    EXPECT_LE(outcome.given, static_cast<int64_t>(2 * 30 * islands));
    EXPECT_GE(outcome.given, static_cast<int64_t>(30 * islands));
  }
}

TEST(SeedPolicyPropertyTest, Losses_WhoIsLeftGetsAll) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    EXPECT_TRUE(Exchange(seed, 30, 1 + seed % 3, /*losses=*/true).all_done);
  }
}

}  // namespace
}  // namespace koinon::dht
