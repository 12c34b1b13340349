// Nodes that come where records lie, and fleets of which nobody is left (the
// scenarios "mult_time" and "replace" of OpenDHT's persistence test).
#include <iostream>
#include <set>
#include <string>
#include <vector>

#include "dht/simulation/scenarios.h"
#include "gtest/gtest.h"

namespace koinon::dht {
namespace {

constexpr uint64_t kSeed = 1;
constexpr size_t kRecords = 10;

// Nearer to the key than anybody whose id was drawn at random.
Key NearestButOne(const Key& key, uint8_t distance) {
  std::string bytes = key.ToBytes();
  bytes.back() = static_cast<char>(bytes.back() ^ distance);
  return *Key::FromBytes(bytes);
}

size_t Found(SimulatedFleet* fleet, const std::vector<Key>& keys) {
  size_t found = 0;
  for (const Key& key : keys) found += fleet->Get(fleet->Any(), key).ok();
  return found;
}

TEST(Turnover, EightNodesNearerToEachKey_HoldItAndItOutlivesTheFirstHolders) {
  constexpr size_t kNearer = 8;
  const auto fleet = StartedFleet(kSeed, 500);
  ASSERT_NE(fleet, nullptr);
  Library library(fleet.get(), kSeed);
  ASSERT_EQ(library.Put(kRecords), kRecords);
  fleet->network().RunFor(absl::Seconds(5));
  std::set<size_t> first;
  for (const Key& key : library.keys()) {
    for (const size_t i : fleet->Holders(key)) first.insert(i);
  }

  std::vector<std::vector<size_t>> nearer(kRecords);
  for (size_t r = 0; r < kRecords; ++r) {
    for (size_t j = 1; j <= kNearer; ++j) {
      nearer[r].push_back(fleet->Add(NearestButOne(library.keys()[r], j)));
    }
  }
  fleet->network().RunFor(absl::Minutes(2));
  for (size_t r = 0; r < kRecords; ++r) {
    const std::vector<size_t> holders = fleet->Holders(library.keys()[r]);
    const std::set<size_t> has(holders.begin(), holders.end());
    for (const size_t i : nearer[r]) EXPECT_TRUE(has.contains(i)) << i;
  }

  for (const size_t i : first) fleet->Kill(i);
  EXPECT_EQ(Found(fleet.get(), library.keys()), kRecords);
}

TEST(Turnover, EachEighthOfTheFleetReplacedAtOnce_NothingIsLost) {
  constexpr size_t kNodes = 400, kParts = 8;
  const auto fleet = StartedFleet(kSeed, kNodes);
  ASSERT_NE(fleet, nullptr);
  Library library(fleet.get(), kSeed);
  ASSERT_EQ(library.Put(kRecords), kRecords);
  fleet->network().RunFor(absl::Seconds(5));
  for (size_t part = 0; part < kParts; ++part) {
    for (size_t i = part; i < kNodes; i += kParts) fleet->Kill(i);
    EXPECT_EQ(Found(fleet.get(), library.keys()), kRecords) << part;
    for (size_t i = part; i < kNodes; i += kParts) fleet->Add();
    fleet->network().RunFor(absl::Minutes(3));
  }
  for (size_t i = 0; i < kNodes; ++i) ASSERT_FALSE(fleet->alive(i)) << i;
  EXPECT_EQ(Found(fleet.get(), library.keys()), kRecords);
  for (const Key& key : library.keys()) {
    EXPECT_GE(fleet->Holders(key).size(), 15u);
  }
}

}  // namespace
}  // namespace koinon::dht
