#include "dht/swarm/seed_policy.h"

#include <gtest/gtest.h>

#include <set>

namespace koinon::dht {
namespace {

TEST(SeedPolicyTest, Choose_OneIsland_GivesTwoCopiesAndNoMore) {
  SeedPolicy policy({.pieces = 5, .copies = 2});
  for (uint64_t peer : {1, 2, 3}) policy.AddPeer(peer, "", true, Bitmap(5));
  std::multiset<uint32_t> given;
  for (int i = 0; i < 12; ++i) {
    if (const auto piece = policy.Choose(1 + i % 3)) given.insert(*piece);
  }
  EXPECT_EQ(given.size(), 10u);
  for (uint32_t piece = 0; piece < 5; ++piece)
    EXPECT_EQ(given.count(piece), 2u);
}

}  // namespace
}  // namespace koinon::dht
