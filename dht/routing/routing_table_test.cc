#include "dht/routing/routing_table.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/digest.h"
#include "base/random.h"
#include "dht/key.h"
#include "dht/routing/key_prefix.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace koinon::dht {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

const absl::Time kStart = absl::FromUnixSeconds(1'700'000'000);

Key RandomKey(Random* random) {
  return Sha256Of(absl::StrCat(random->NextUint64(), random->NextUint64()));
}

Contact At(const Key& id) {
  return {.id = id, .address = absl::StrCat(id.ToShortHex(), ":1"), .site = ""};
}

Key Self() { return Sha256Of("self"); }

// The i-th node of the bucket whose nodes share `bits` bits with Self().
Contact InBucket(size_t bits, uint64_t i) {
  return At(KeyInBucket(Self(), bits, Sha256Of(absl::StrCat(bits, "/", i))));
}

// As InBucket(3, i), in one of the bucket's 16 cells: the first byte's last
// four bits.
Contact InCell(uint8_t cell, uint64_t i) {
  std::string bytes = InBucket(3, i).id.ToBytes();
  bytes[0] = static_cast<char>((bytes[0] & 0xf0) | cell);
  return At(*Key::FromBytes(bytes));
}

// Buckets of two, no cells and no siblings, unless a test wants some.
RoutingTable::Options Small() {
  RoutingTable::Options options;
  options.bucket_size = 2;
  options.cell_size = 0;
  options.siblings = 0;
  options.replacements = 3;
  options.full_table = 0;
  return options;
}

std::vector<Key> Ids(const std::vector<Contact>& contacts) {
  std::vector<Key> ids;
  for (const Contact& contact : contacts) ids.push_back(contact.id);
  return ids;
}

std::vector<Key> SortedByDistance(std::vector<Key> ids, const Key& target) {
  std::sort(ids.begin(), ids.end(),
            [&](const Key& a, const Key& b) { return Closer(target, a, b); });
  return ids;
}

std::map<size_t, size_t> BucketSizes(const RoutingTable& table,
                                     const Key& self) {
  std::map<size_t, size_t> sizes;
  for (const Contact& contact : table.All()) {
    ++sizes[CommonPrefixBits(self, contact.id)];
  }
  return sizes;
}

TEST(RoutingTableTest, New_AnyQuestion_KnowsNobody) {
  RoutingTable table(Self(), {});
  EXPECT_EQ(table.size(), 0u);
  EXPECT_THAT(table.Closest(Self(), 20), IsEmpty());
  EXPECT_THAT(table.ToPing(kStart, 8), IsEmpty());
  EXPECT_THAT(table.ToRefresh(kStart, 1), IsEmpty());
  EXPECT_EQ(table.next_deadline(), absl::InfiniteFuture());
}

TEST(RoutingTableTest, OnHeard_NewNode_IsPingedOnceAndNotInTheTable) {
  RoutingTable table(Self(), {});
  const Contact node = InBucket(0, 0);
  EXPECT_TRUE(table.OnHeard(node, kStart));
  EXPECT_FALSE(table.OnHeard(node, kStart));
  EXPECT_FALSE(table.Contains(node.id));
  EXPECT_THAT(table.Closest(node.id, 1), IsEmpty());
  EXPECT_THAT(table.ToPing(kStart, 8), IsEmpty());

  EXPECT_TRUE(table.OnAnswered(node, kStart));
  EXPECT_FALSE(table.OnAnswered(node, kStart));
  EXPECT_THAT(table.Closest(node.id, 1), ElementsAre(node));
  EXPECT_FALSE(table.OnHeard(node, kStart));
}

TEST(RoutingTableTest, OnHeard_ItselfOrAClient_IsIgnored) {
  RoutingTable table(Self(), {});
  Contact client = InBucket(0, 0);
  client.address.clear();
  EXPECT_FALSE(table.OnHeard(client, kStart, /*itself=*/true));
  EXPECT_FALSE(table.OnAnswered(client, kStart));
  EXPECT_FALSE(table.OnHeard(At(Self()), kStart));
  EXPECT_FALSE(table.OnAnswered(At(Self()), kStart));
  EXPECT_FALSE(table.OnFailed(Self(), kStart));
  table.Remove(Self());
  EXPECT_EQ(table.size(), 0u);
}

TEST(RoutingTableTest, OnHeard_MoreThanPlaces_OnlyAsManyArePinged) {
  RoutingTable table(Self(), Small());
  EXPECT_TRUE(table.OnHeard(InBucket(3, 0), kStart));
  EXPECT_TRUE(table.OnHeard(InBucket(3, 1), kStart));
  EXPECT_FALSE(table.OnHeard(InBucket(3, 2), kStart));
  EXPECT_THAT(table.ToPing(kStart, 8), IsEmpty());
  // One of them is not there: the third gets its chance.
  EXPECT_FALSE(table.OnFailed(InBucket(3, 0).id, kStart));
  EXPECT_THAT(table.ToPing(kStart, 8), ElementsAre(InBucket(3, 2)));
  EXPECT_THAT(table.ToPing(kStart, 8), IsEmpty());
}

TEST(RoutingTableTest, OnAnswered_FullBucket_KeepsTheOldOnes) {
  RoutingTable table(Self(), Small());
  EXPECT_TRUE(table.OnAnswered(InBucket(5, 0), kStart));
  EXPECT_TRUE(table.OnAnswered(InBucket(5, 1), kStart));
  for (uint64_t i = 2; i < 100; ++i) {
    EXPECT_FALSE(table.OnHeard(InBucket(5, i), kStart));
    EXPECT_FALSE(table.OnAnswered(InBucket(5, i), kStart));
  }
  EXPECT_EQ(table.size(), 2u);
  EXPECT_TRUE(table.Contains(InBucket(5, 0).id));
  EXPECT_TRUE(table.Contains(InBucket(5, 1).id));
}

TEST(RoutingTableTest, OnHeard_FullBucket_PlaceOnlyWhereACellHasFew) {
  RoutingTable::Options options = Small();
  options.cell_size = 1;
  RoutingTable table(Self(), options);
  // As long as the bucket is not full its cells do not matter.
  EXPECT_TRUE(table.OnAnswered(InCell(0, 0), kStart));
  EXPECT_TRUE(table.OnAnswered(InCell(0, 1), kStart));
  EXPECT_FALSE(table.OnHeard(InCell(0, 2), kStart));
  EXPECT_FALSE(table.OnAnswered(InCell(0, 3), kStart));

  EXPECT_TRUE(table.OnHeard(InCell(5, 4), kStart));
  EXPECT_FALSE(table.OnHeard(InCell(5, 5), kStart));  // one is coming
  EXPECT_TRUE(table.OnHeard(InCell(9, 6), kStart));
  EXPECT_FALSE(table.OnFailed(InCell(5, 4).id, kStart));
  EXPECT_THAT(table.ToPing(kStart, 8), ElementsAre(InCell(5, 5)));
  EXPECT_TRUE(table.OnAnswered(InCell(5, 5), kStart));
  EXPECT_TRUE(table.OnAnswered(InCell(9, 6), kStart));
  EXPECT_FALSE(table.OnAnswered(InCell(9, 7), kStart));
  EXPECT_EQ(table.size(), 4u);
}

TEST(RoutingTableTest, OnFailed_FullBucket_AnotherOfItsCellIsPinged) {
  RoutingTable::Options options = Small();
  options.cell_size = 1;
  options.retries = 0;
  RoutingTable table(Self(), options);
  for (const uint8_t cell : {0, 1, 2, 3}) {
    EXPECT_TRUE(table.OnAnswered(InCell(cell, cell), kStart));
  }
  for (const uint8_t cell : {1, 2, 3}) {
    EXPECT_FALSE(table.OnHeard(InCell(cell, 10u + cell), kStart));
  }
  table.OnFailed(InCell(2, 2).id, kStart);
  EXPECT_TRUE(table.OnFailed(InCell(2, 2).id, kStart));
  EXPECT_THAT(table.ToPing(kStart, 8), ElementsAre(InCell(2, 12)));
  EXPECT_TRUE(table.OnAnswered(InCell(2, 12), kStart));
  EXPECT_THAT(table.ToPing(kStart, 8), IsEmpty());
}

TEST(RoutingTableTest, OnFailed_TwiceInARow_Leaves) {
  RoutingTable table(Self(), Small());
  const Contact node = InBucket(5, 0);
  table.OnAnswered(node, kStart);
  EXPECT_FALSE(table.OnFailed(node.id, kStart));
  EXPECT_TRUE(table.Contains(node.id));
  // At once asked again; the answer makes it as good as before.
  EXPECT_THAT(table.ToPing(kStart, 8), ElementsAre(node));
  table.OnAnswered(node, kStart);
  EXPECT_FALSE(table.OnFailed(node.id, kStart));
  EXPECT_TRUE(table.OnFailed(node.id, kStart));
  EXPECT_FALSE(table.Contains(node.id));
  EXPECT_FALSE(table.OnFailed(node.id, kStart));
}

TEST(RoutingTableTest, OnFailed_Unknown_ChangesNothing) {
  RoutingTable table(Self(), Small());
  EXPECT_FALSE(table.OnFailed(InBucket(9, 0).id, kStart));
  EXPECT_EQ(table.next_deadline(), absl::InfiniteFuture());
}

TEST(RoutingTableTest, Eviction_SeveralReplacements_NewestIsPingedAndEnters) {
  RoutingTable table(Self(), Small());
  table.OnAnswered(InBucket(5, 0), kStart);
  table.OnAnswered(InBucket(5, 1), kStart);
  for (uint64_t i = 2; i < 7; ++i) table.OnHeard(InBucket(5, i), kStart);
  // Three are kept: 4, 5, 6. Heard of again, 4 is the newest.
  EXPECT_FALSE(table.OnHeard(InBucket(5, 4), kStart));

  table.OnFailed(InBucket(5, 0).id, kStart);
  EXPECT_TRUE(table.OnFailed(InBucket(5, 0).id, kStart));
  EXPECT_THAT(table.ToPing(kStart, 8), ElementsAre(InBucket(5, 4)));
  table.OnFailed(InBucket(5, 4).id, kStart);
  EXPECT_THAT(table.ToPing(kStart, 8), ElementsAre(InBucket(5, 6)));
  EXPECT_TRUE(table.OnAnswered(InBucket(5, 6), kStart));
  EXPECT_THAT(table.ToPing(kStart, 8), IsEmpty());
  EXPECT_TRUE(table.Contains(InBucket(5, 1).id));
  EXPECT_TRUE(table.Contains(InBucket(5, 6).id));
}

TEST(RoutingTableTest, SilentNode_AnswersThePing_ReplacementGoesOnWaiting) {
  RoutingTable table(Self(), Small());
  table.OnAnswered(InBucket(5, 0), kStart);
  table.OnAnswered(InBucket(5, 1), kStart);
  table.OnHeard(InBucket(5, 2), kStart);
  const absl::Time later = kStart + absl::Minutes(10);
  EXPECT_THAT(table.ToPing(later - absl::Seconds(1), 8), IsEmpty());
  EXPECT_THAT(table.ToPing(later, 8), SizeIs(2));
  EXPECT_THAT(table.ToPing(later, 8), IsEmpty());  // given out once
  table.OnAnswered(InBucket(5, 0), later);
  table.OnAnswered(InBucket(5, 1), later);
  EXPECT_THAT(table.ToPing(later, 8), IsEmpty());
  EXPECT_FALSE(table.Contains(InBucket(5, 2).id));
}

TEST(RoutingTableTest, OnAnswered_OtherAddress_Moves) {
  RoutingTable table(Self(), Small());
  Contact node = InBucket(5, 0);
  table.OnAnswered(node, kStart);
  node.address = "elsewhere:2";
  EXPECT_FALSE(table.OnHeard(node, kStart, /*itself=*/true));
  EXPECT_THAT(table.All(), ElementsAre(InBucket(5, 0)));  // anyone could say it
  EXPECT_FALSE(table.OnAnswered(node, kStart));
  EXPECT_THAT(table.All(), ElementsAre(node));
}

TEST(RoutingTableTest, Remove_AliveOrWaiting_IsGoneForGood) {
  RoutingTable table(Self(), Small());
  table.OnAnswered(InBucket(5, 0), kStart);
  table.OnAnswered(InBucket(5, 1), kStart);
  table.OnHeard(InBucket(5, 2), kStart);
  table.OnHeard(InBucket(5, 3), kStart);
  table.Remove(InBucket(5, 3).id);
  table.Remove(InBucket(5, 0).id);
  EXPECT_FALSE(table.Contains(InBucket(5, 0).id));
  EXPECT_THAT(table.ToPing(kStart, 8), ElementsAre(InBucket(5, 2)));
  EXPECT_FALSE(table.OnFailed(InBucket(5, 2).id, kStart));
  EXPECT_THAT(table.ToPing(kStart, 8), IsEmpty());
}

TEST(RoutingTableTest, NodeThatLeft_StillPlace_IsRetriedTwiceThenForgotten) {
  RoutingTable table(Self(), Small());
  const Contact node = InBucket(5, 0);
  table.OnAnswered(node, kStart);
  table.OnFailed(node.id, kStart);
  table.OnFailed(node.id, kStart);
  // Others name it: that says nothing. It asks: that says that it is back.
  EXPECT_FALSE(table.OnHeard(node, kStart));
  absl::Time now = kStart + absl::Minutes(5);
  EXPECT_THAT(table.ToPing(now - absl::Seconds(1), 8), IsEmpty());
  EXPECT_EQ(table.next_deadline(), now);
  EXPECT_THAT(table.ToPing(now, 8), ElementsAre(node));
  table.OnFailed(node.id, now);
  EXPECT_THAT(table.ToPing(now + absl::Minutes(14), 8), IsEmpty());
  now += absl::Minutes(15);
  EXPECT_THAT(table.ToPing(now, 8), ElementsAre(node));
  table.OnFailed(node.id, now);
  EXPECT_THAT(table.ToPing(now + absl::Hours(100), 8), IsEmpty());
  EXPECT_EQ(table.next_deadline(), absl::InfiniteFuture());
}

TEST(RoutingTableTest, NodeThatLeft_AsksItself_IsPingedAtOnce) {
  RoutingTable table(Self(), Small());
  const Contact node = InBucket(5, 0);
  table.OnAnswered(node, kStart);
  table.OnFailed(node.id, kStart);
  table.OnFailed(node.id, kStart);
  EXPECT_TRUE(table.OnHeard(node, kStart, /*itself=*/true));
  EXPECT_TRUE(table.OnAnswered(node, kStart));
}

TEST(RoutingTableTest, NodeThatLeft_NewerReplacements_TakeItsPlace) {
  RoutingTable table(Self(), Small());
  table.OnAnswered(InBucket(5, 0), kStart);
  table.OnFailed(InBucket(5, 0).id, kStart);
  table.OnFailed(InBucket(5, 0).id, kStart);
  table.OnAnswered(InBucket(5, 1), kStart);
  table.OnAnswered(InBucket(5, 2), kStart);
  for (uint64_t i = 3; i < 6; ++i) table.OnHeard(InBucket(5, i), kStart);
  table.Remove(InBucket(5, 1).id);
  table.Remove(InBucket(5, 2).id);
  EXPECT_THAT(table.ToPing(kStart + absl::Hours(1), 8),
              ElementsAre(InBucket(5, 5), InBucket(5, 4)));
}

TEST(RoutingTableTest, Siblings_FullBucket_StayBesideIt) {
  RoutingTable::Options options = Small();
  options.siblings = 3;
  RoutingTable table(Self(), options);
  // All in one bucket of two: with the siblings there is place for three.
  std::vector<Key> ids;
  for (uint64_t i = 0; i < 8; ++i) {
    table.OnAnswered(InBucket(0, i), kStart);
    ids.push_back(InBucket(0, i).id);
  }
  ids = SortedByDistance(ids, Self());
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(table.Contains(ids[i])) << i;
  EXPECT_TRUE(table.Contains(InBucket(0, 0).id));
  EXPECT_TRUE(table.Contains(InBucket(0, 1).id));
  EXPECT_LE(table.size(), 5u);
}

TEST(RoutingTableTest, DisplacedSibling_FullBucket_BecomesAReplacement) {
  RoutingTable::Options options = Small();
  options.siblings = 3;
  RoutingTable table(Self(), options);
  for (uint64_t i = 0; i < 3; ++i) table.OnAnswered(InBucket(0, i), kStart);
  ASSERT_EQ(table.size(), 3u);
  // Three nearer ones, for whom there is place in their own bucket or beside.
  for (uint64_t i = 0; i < 3; ++i) table.OnAnswered(InBucket(1, i), kStart);
  EXPECT_EQ(table.size(), 5u);
  EXPECT_FALSE(table.Contains(InBucket(0, 2).id));
  table.Remove(InBucket(0, 0).id);
  EXPECT_THAT(table.ToPing(kStart, 8), ElementsAre(InBucket(0, 2)));
  EXPECT_TRUE(table.OnAnswered(InBucket(0, 2), kStart));
}

TEST(RoutingTableTest, SiblingBesideItsBucket_PlaceBecomesFree_MovesIntoIt) {
  RoutingTable::Options options = Small();
  options.siblings = 3;
  RoutingTable table(Self(), options);
  for (uint64_t i = 0; i < 3; ++i) table.OnAnswered(InBucket(0, i), kStart);
  table.Remove(InBucket(0, 0).id);
  // No longer among the siblings, but the bucket has both.
  for (uint64_t i = 0; i < 3; ++i) table.OnAnswered(InBucket(1, i), kStart);
  EXPECT_TRUE(table.Contains(InBucket(0, 1).id));
  EXPECT_TRUE(table.Contains(InBucket(0, 2).id));
}

TEST(RoutingTableTest, SiblingLeaves_NextNearest_IsASiblingNow) {
  RoutingTable::Options options = Small();
  options.siblings = 1;
  RoutingTable table(Self(), options);
  table.OnAnswered(InBucket(3, 0), kStart);
  table.OnAnswered(InBucket(7, 0), kStart);
  table.Remove(InBucket(7, 0).id);
  EXPECT_THAT(table.ToPing(kStart + absl::Seconds(30), 8),
              ElementsAre(InBucket(3, 0)));
}

TEST(RoutingTableTest, ToPing_Silence_SiblingsSoonerThanOthers) {
  RoutingTable::Options options = Small();
  options.siblings = 1;
  RoutingTable table(Self(), options);
  table.OnAnswered(InBucket(0, 0), kStart);
  table.OnAnswered(InBucket(7, 0), kStart);
  EXPECT_THAT(table.ToPing(kStart + absl::Seconds(29), 8), IsEmpty());
  EXPECT_THAT(table.ToPing(kStart + absl::Seconds(30), 8),
              ElementsAre(InBucket(7, 0)));
  table.OnAnswered(InBucket(7, 0), kStart + absl::Minutes(10));
  EXPECT_THAT(table.ToPing(kStart + absl::Minutes(10), 8),
              ElementsAre(InBucket(0, 0)));
}

TEST(RoutingTableTest, ToPing_SiblingThatAsks_IsNotSilentUntilSilenceIsOver) {
  RoutingTable::Options options = Small();
  options.siblings = 1;
  RoutingTable table(Self(), options);
  const Contact sibling = InBucket(7, 0);
  table.OnAnswered(sibling, kStart);
  absl::Time now = kStart;
  while (now < kStart + absl::Minutes(10)) {
    EXPECT_THAT(table.ToPing(now, 8), IsEmpty()) << now - kStart;
    EXPECT_FALSE(table.OnHeard(sibling, now, /*itself=*/true));
    now += absl::Seconds(25);
  }
  // It asks, and nobody knows whether it can be asked.
  EXPECT_THAT(table.ToPing(now, 8), ElementsAre(sibling));
  table.OnAnswered(sibling, now);
  table.OnHeard(sibling, now + absl::Seconds(20), /*itself=*/true);
  EXPECT_THAT(table.ToPing(now + absl::Seconds(49), 8), IsEmpty());
  EXPECT_THAT(table.ToPing(now + absl::Seconds(50), 8), ElementsAre(sibling));
}

TEST(RoutingTableTest, ToPing_SiblingNamedOrElsewhere_IsSilentAllTheSame) {
  RoutingTable::Options options = Small();
  options.siblings = 1;
  RoutingTable table(Self(), options);
  Contact sibling = InBucket(7, 0);
  table.OnAnswered(sibling, kStart);
  table.OnHeard(sibling, kStart + absl::Seconds(20));
  Contact elsewhere = sibling;
  elsewhere.address = "elsewhere:2";
  table.OnHeard(elsewhere, kStart + absl::Seconds(20), /*itself=*/true);
  EXPECT_THAT(table.ToPing(kStart + absl::Seconds(30), 8),
              ElementsAre(sibling));
}

TEST(RoutingTableTest, ToPing_SiblingThatFailedAndAsks_IsPingedAtOnce) {
  RoutingTable::Options options = Small();
  options.siblings = 1;
  RoutingTable table(Self(), options);
  table.OnAnswered(InBucket(7, 0), kStart);
  table.OnFailed(InBucket(7, 0).id, kStart);
  table.OnHeard(InBucket(7, 0), kStart, /*itself=*/true);
  EXPECT_THAT(table.ToPing(kStart, 8), ElementsAre(InBucket(7, 0)));
}

TEST(RoutingTableTest, ToPing_MoreThanCount_MostUrgentFirstAndTheRestStaysDue) {
  RoutingTable::Options options = Small();
  options.siblings = 1;
  RoutingTable table(Self(), options);
  table.OnAnswered(InBucket(0, 0), kStart);
  table.OnAnswered(InBucket(1, 0), kStart - absl::Seconds(1));
  table.OnAnswered(InBucket(7, 0), kStart);
  table.OnFailed(InBucket(0, 0).id, kStart);
  const absl::Time late = kStart + absl::Minutes(11);
  EXPECT_THAT(table.ToPing(late, 1), ElementsAre(InBucket(0, 0)));
  EXPECT_LE(table.next_deadline(), late);
  EXPECT_THAT(table.ToPing(late, 1), ElementsAre(InBucket(7, 0)));
  EXPECT_THAT(table.ToPing(late, 0), IsEmpty());
  EXPECT_THAT(table.ToPing(late, 1), ElementsAre(InBucket(1, 0)));
  EXPECT_THAT(table.ToPing(late, 1), IsEmpty());
}

TEST(RoutingTableTest, ToPing_NothingSaidAboutAPing_IsGivenOutAgain) {
  RoutingTable table(Self(), Small());
  table.OnAnswered(InBucket(5, 0), kStart);
  const absl::Time silent = kStart + absl::Minutes(10);
  EXPECT_THAT(table.ToPing(silent, 8), ElementsAre(InBucket(5, 0)));
  EXPECT_TRUE(table.OnHeard(InBucket(5, 1), silent));
  const absl::Time again = silent + absl::Minutes(1);
  EXPECT_EQ(table.next_deadline(), absl::InfinitePast());  // to be refreshed
  table.ToRefresh(silent, 1);
  EXPECT_EQ(table.next_deadline(), again);
  EXPECT_THAT(table.ToPing(again - absl::Seconds(1), 8), IsEmpty());
  EXPECT_THAT(table.ToPing(again, 8),
              ElementsAre(InBucket(5, 0), InBucket(5, 1)));
  EXPECT_THAT(table.ToPing(again, 8), IsEmpty());
}

TEST(RoutingTableTest, ToRefresh_SomeNodes_OnePlaceInEachBucketUpToOneAfter) {
  RoutingTable table(Self(), Small());
  table.OnAnswered(InBucket(4, 0), kStart);
  const std::vector<Key> places = table.ToRefresh(kStart, 7);
  ASSERT_THAT(places, SizeIs(6));
  for (size_t i = 0; i < places.size(); ++i) {
    EXPECT_EQ(CommonPrefixBits(Self(), places[i]), i);
  }
  EXPECT_THAT(table.ToRefresh(kStart + absl::Minutes(9), 8), IsEmpty());
  // A deeper bucket gets a node: its refresh is due, the others' is not.
  const absl::Time later = kStart + absl::Minutes(9);
  table.OnAnswered(InBucket(6, 0), later);
  EXPECT_LE(table.next_deadline(), later);
  EXPECT_THAT(table.ToRefresh(later, 8), SizeIs(2));
  EXPECT_THAT(table.ToRefresh(kStart + absl::Minutes(10), 8), SizeIs(6));
}

TEST(RoutingTableTest, ToRefresh_SeedSameOrOther_PlacesSameOrOther) {
  const auto places = [](uint64_t seed) {
    RoutingTable table(Self(), Small());
    table.OnAnswered(InBucket(4, 0), kStart);
    return table.ToRefresh(kStart, seed);
  };
  EXPECT_EQ(places(1), places(1));
  EXPECT_NE(places(1), places(2));
}

TEST(RoutingTableTest, ToRefresh_NearestPossibleNode_StopsAtTheLastBucket) {
  RoutingTable table(Self(), Small());
  table.OnAnswered(InBucket(255, 0), kStart);
  EXPECT_THAT(table.ToRefresh(kStart, 1), SizeIs(256));
}

TEST(RoutingTableTest, FullTable_UpToItsBound_KnowsEverybody) {
  RoutingTable::Options options;
  options.full_table = 500;
  RoutingTable table(Self(), options);
  for (uint64_t i = 0; i < 500; ++i) {
    EXPECT_TRUE(table.OnAnswered(InBucket(0, i), kStart));
  }
  EXPECT_EQ(table.size(), 500u);
}

TEST(RoutingTableTest, FullTable_ManyHeardOfInOneBucket_AllAreChecked) {
  RoutingTable::Options options = Small();
  options.full_table = 500;
  RoutingTable table(Self(), options);
  for (uint64_t i = 0; i < 50; ++i) {
    EXPECT_TRUE(table.OnHeard(InBucket(0, i), kStart));
    EXPECT_TRUE(table.OnAnswered(InBucket(0, i), kStart));
  }
  EXPECT_EQ(table.size(), 50u);
}

TEST(RoutingTableTest, FullTable_OverItsBound_ShrinksToTheOldestOfEachBucket) {
  RoutingTable::Options options;
  options.bucket_size = 5;
  options.cell_size = 0;
  options.siblings = 10;
  options.full_table = 100;
  RoutingTable table(Self(), options);
  Random random(11);
  std::map<size_t, std::vector<Key>> by_bucket;  // oldest first
  std::vector<Key> ids;
  for (int i = 0; i < 101; ++i) {
    const Key id = RandomKey(&random);
    ids.push_back(id);
    by_bucket[CommonPrefixBits(Self(), id)].push_back(id);
    table.OnAnswered(At(id), kStart);
    ASSERT_TRUE(i == 100 || table.size() == ids.size());
  }
  ids = SortedByDistance(ids, Self());
  std::set<Key> expected(ids.begin(), ids.begin() + 10);
  for (const auto& [bucket, members] : by_bucket) {
    expected.insert(members.begin(),
                    members.begin() + std::min<size_t>(5, members.size()));
  }
  const std::vector<Key> found = Ids(table.All());
  EXPECT_EQ(std::set<Key>(found.begin(), found.end()), expected);
  // For good: what is far stays bounded.
  for (int i = 0; i < 50; ++i) table.OnAnswered(InBucket(0, i), kStart);
  EXPECT_EQ(BucketSizes(table, Self())[0], 5u);
}

TEST(RoutingTableTest, FullTable_FewerAgainForAWhile_KnowsEverybodyAgain) {
  RoutingTable::Options options;
  options.full_table = 200;
  RoutingTable table(Self(), options);
  Random random(12);
  std::vector<Contact> nodes;
  for (int i = 0; i < 400; ++i) nodes.push_back(At(RandomKey(&random)));
  for (const Contact& node : nodes) table.OnAnswered(node, kStart);
  EXPECT_FALSE(table.full());
  absl::Time now = kStart;
  const auto leave = [&](size_t left) {
    while (nodes.size() > left) {
      for (int i = 0; i < 2; ++i) table.OnFailed(nodes.back().id, now);
      nodes.pop_back();
    }
    for (const Contact& node : nodes) table.OnAnswered(node, now);
  };
  const auto wait = [&] {
    for (int i = 0; i < 3; ++i) {
      now += options.refresh;
      EXPECT_THAT(table.ToRefresh(now, i), Not(IsEmpty()));
    }
  };
  leave(150);  // too many, by a guess that may be wrong by a sixth
  wait();
  EXPECT_FALSE(table.full());
  leave(60);
  now += options.refresh;
  table.ToRefresh(now, 1);
  EXPECT_FALSE(table.full());  // it may be for a moment
  wait();
  EXPECT_TRUE(table.full());
  for (const Contact& node : nodes) table.OnAnswered(node, now);
  EXPECT_EQ(table.size(), 60u);
  for (uint64_t i = 0; i < 140; ++i) {
    EXPECT_TRUE(table.OnAnswered(InBucket(0, i), now));
  }
  EXPECT_TRUE(table.full());
  table.OnAnswered(InBucket(0, 140), now);
  EXPECT_FALSE(table.full());
}

// kbucket of other implementations: with any ids, and any order of answers.
TEST(RoutingTableTest, RandomAnswers_AnyOrder_BucketsBoundedSiblingsExact) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Random random(seed);
    RoutingTable::Options options;
    options.bucket_size = 1 + random.NextBelow(20);
    options.siblings = random.NextBelow(2 * options.bucket_size + 1);
    options.cell_size = random.NextBelow(3);
    options.full_table = 0;
    const Key self = RandomKey(&random);
    RoutingTable table(self, options);
    std::vector<Key> answered;
    const size_t nodes = 1 + random.NextBelow(300);
    for (size_t i = 0; i < nodes; ++i) {
      const Key id = RandomKey(&random);
      answered.push_back(id);
      table.OnAnswered(At(id), kStart);
    }
    answered = SortedByDistance(answered, self);
    const size_t siblings = std::min(options.siblings, answered.size());
    EXPECT_EQ(Ids(table.Closest(self, siblings)),
              std::vector<Key>(answered.begin(), answered.begin() + siblings));
    std::map<size_t, size_t> beside;
    for (size_t i = 0; i < siblings; ++i) {
      ++beside[CommonPrefixBits(self, answered[i])];
    }
    std::map<size_t, size_t> known;
    for (const Key& id : answered) ++known[CommonPrefixBits(self, id)];
    for (const auto& [bucket, size] : BucketSizes(table, self)) {
      EXPECT_LE(size,
                options.bucket_size + beside[bucket] + 16 * options.cell_size);
      EXPECT_GE(size, std::min(options.bucket_size, known[bucket]));
    }
  }
}

TEST(RoutingTableTest, Closest_RandomTables_SameAsSortingEverything) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Random random(seed);
    const Key self = RandomKey(&random);
    RoutingTable::Options options;
    options.full_table = seed % 2 == 0 ? 2'048 : 0;
    RoutingTable table(self, options);
    const size_t nodes = random.NextBelow(400);
    for (size_t i = 0; i < nodes; ++i) {
      // Some share long prefixes with each other or with the node itself.
      Key id = RandomKey(&random);
      if (i % 3 == 0) id = KeyInBucket(self, random.NextBelow(256), id);
      table.OnAnswered(At(id), kStart);
    }
    const std::vector<Key> all = Ids(table.All());
    EXPECT_TRUE(std::is_sorted(all.begin(), all.end()));
    for (int i = 0; i < 10; ++i) {
      Key target = i % 2 == 0 || all.empty()
                       ? RandomKey(&random)
                       : all[random.NextBelow(all.size())];
      if (i == 2) target = self;
      const size_t count = random.NextBelow(50);
      std::vector<Key> expected = SortedByDistance(all, target);
      expected.resize(std::min(count, expected.size()));
      EXPECT_EQ(Ids(table.Closest(target, count)), expected);
      uint64_t digest = 0;
      for (const Key& id : expected) digest ^= PrefixOf(id);
      EXPECT_EQ(table.DigestOfClosest(target, count, false), digest);
      std::vector<Key> with_self = all;
      with_self.push_back(self);
      with_self = SortedByDistance(with_self, target);
      with_self.resize(std::min(count, with_self.size()));
      digest = 0;
      for (const Key& id : with_self) digest ^= PrefixOf(id);
      EXPECT_EQ(table.DigestOfClosest(target, count, true), digest);
    }
  }
}

// libtorrent's routing_table_uniform: with ids spread evenly, the first buckets
// are full, and the number of those that are follows the size of the network.
TEST(RoutingTableTest, UniformNetwork_EveryNodeAnswers_FirstBucketsAreFull) {
  RoutingTable::Options options;
  options.full_table = 0;
  RoutingTable table(Self(), options);
  Random random(3);
  for (int i = 0; i < 20'000; ++i) {
    table.OnAnswered(At(RandomKey(&random)), kStart);
  }
  std::map<size_t, size_t> sizes = BucketSizes(table, Self());
  // Bucket b has 20,000 / 2^(b+1) nodes about: 39 in the ninth.
  // Two in each of 16 cells, and those of the first 20 that came together.
  for (size_t bucket = 0; bucket < 8; ++bucket) {
    EXPECT_GE(sizes[bucket], 30u);
    EXPECT_LE(sizes[bucket], 45u);
  }
  std::map<size_t, size_t> cells;
  for (const Contact& contact : table.All()) {
    if (CommonPrefixBits(Self(), contact.id) != 3) continue;
    ++cells[contact.id.bytes()[0] & 0xf];
  }
  EXPECT_THAT(cells, SizeIs(16));
  for (const auto& [cell, nodes] : cells) EXPECT_GE(nodes, 2u) << cell;
}

// libtorrent's routing_table_balance: an attacker that fills one place of the
// id space gets no more than a bucket, and the siblings if it is near enough.
TEST(RoutingTableTest, FloodOfOneBucket_ManyNodes_OthersKeepTheirPlaces) {
  RoutingTable::Options options;
  options.full_table = 0;
  RoutingTable table(Self(), options);
  Random random(4);
  std::vector<Key> honest;
  for (int i = 0; i < 100; ++i) {
    honest.push_back(RandomKey(&random));
    table.OnAnswered(At(honest.back()), kStart);
  }
  const std::vector<Contact> before = table.All();
  for (uint64_t i = 0; i < 5'000; ++i) {
    table.OnHeard(InBucket(1, i), kStart, /*itself=*/true);
    table.OnAnswered(InBucket(1, i), kStart);
  }
  for (const Contact& contact : before) {
    if (CommonPrefixBits(Self(), contact.id) == 1) continue;
    EXPECT_TRUE(table.Contains(contact.id));
  }
  EXPECT_LE(BucketSizes(table, Self())[1], 60u);
}

// A network of which some nodes are dead, answers and failures in any order.
class RandomScheduleTest : public ::testing::TestWithParam<uint64_t> {};

TEST_P(RandomScheduleTest, NextDeadline_AnySchedule_NothingBeforeItAndNoSpin) {
  Random random(GetParam());
  RoutingTable::Options options;
  options.bucket_size = 4;
  options.cell_size = GetParam() % 2;
  options.siblings = 8;
  options.replacements = 5;
  options.full_table = GetParam() % 3 == 0 ? 60 : 0;
  options.patience = absl::InfiniteDuration();
  const Key self = RandomKey(&random);
  RoutingTable table(self, options);
  std::vector<Key> nodes;
  std::set<Key> dead;
  for (int i = 0; i < 120; ++i) nodes.push_back(RandomKey(&random));
  absl::Time now = kStart;
  std::vector<Contact> asked;
  for (int step = 0; step < 3'000; ++step) {
    const Key& id = nodes[random.NextBelow(nodes.size())];
    const absl::Time deadline = table.next_deadline();
    switch (random.NextBelow(6)) {
      case 0:
        if (table.OnHeard(At(id), now, random.NextBelow(2) == 0)) {
          asked.push_back(At(id));
        }
        break;
      case 1:
        if (!dead.erase(id)) dead.insert(id);
        break;
      case 2: {
        now += absl::Seconds(random.NextBelow(20));
        const size_t count = random.NextBelow(5);
        const std::vector<Contact> pings = table.ToPing(now, count);
        const std::vector<Key> places = table.ToRefresh(now, step);
        EXPECT_LE(pings.size(), count);
        if (now < deadline) {
          EXPECT_THAT(pings, IsEmpty());
          EXPECT_THAT(places, IsEmpty());
        } else if (count > 0 && pings.empty()) {
          EXPECT_GT(table.next_deadline(), now) << "would spin";
        }
        asked.insert(asked.end(), pings.begin(), pings.end());
        break;
      }
      default: {
        if (asked.empty()) break;
        const size_t which = random.NextBelow(asked.size());
        const Contact contact = asked[which];
        asked.erase(asked.begin() + which);
        const bool was_there = table.Contains(contact.id);
        if (dead.contains(contact.id)) {
          const bool left = table.OnFailed(contact.id, now);
          EXPECT_EQ(left, was_there && !table.Contains(contact.id));
        } else {
          const bool entered = table.OnAnswered(contact, now);
          EXPECT_EQ(entered, !was_there && table.Contains(contact.id));
        }
      }
    }
    std::set<Key> unique;
    for (const Contact& contact : asked) {
      ASSERT_TRUE(unique.insert(contact.id).second) << "pinged twice at once";
    }
  }
  if (options.full_table > 0) return;
  for (const auto& [bucket, size] : BucketSizes(table, self)) {
    EXPECT_LE(size, 4u + 8u + 16 * options.cell_size);
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomScheduleTest,
                         ::testing::Range<uint64_t>(0, 30));

// Nodes that live are found whatever dies around them.
TEST(RoutingTableTest, HalfOfTheNodesDie_Pinged_OnlyTheAliveAreLeft) {
  RoutingTable::Options options;
  options.full_table = 0;
  RoutingTable table(Self(), options);
  Random random(5);
  std::vector<Key> nodes;
  std::set<Key> dead;
  for (int i = 0; i < 1'000; ++i) {
    nodes.push_back(RandomKey(&random));
    if (i % 2 == 0) dead.insert(nodes.back());
    table.OnAnswered(At(nodes.back()), kStart);
  }
  std::set<Key> alive_before;
  for (const Contact& contact : table.All()) {
    if (!dead.contains(contact.id)) alive_before.insert(contact.id);
  }
  absl::Time now = kStart;
  for (int i = 0; i < 2'000 && now < kStart + absl::Minutes(25); ++i) {
    now = std::max(now,
                   std::min(table.next_deadline(), kStart + absl::Minutes(25)));
    table.ToRefresh(now, i);
    for (const Contact& contact : table.ToPing(now, 8)) {
      if (dead.contains(contact.id)) {
        table.OnFailed(contact.id, now);
      } else {
        table.OnAnswered(contact, now);
      }
    }
  }
  for (const Contact& contact : table.All()) {
    EXPECT_FALSE(dead.contains(contact.id));
  }
  for (const Key& id : alive_before) EXPECT_TRUE(table.Contains(id));
}

TEST(RoutingTable, Heard_ElsewhereThanWhereItDidNotAnswer_IsPingedThere) {
  RoutingTable table(Self(), Small());
  const Contact misplaced = InBucket(1, 0);
  Contact node = misplaced;
  node.address = "right:1";
  EXPECT_EQ(table.AddressOf(node.id), "");
  EXPECT_TRUE(table.OnHeard(misplaced, kStart));
  EXPECT_EQ(table.AddressOf(node.id), misplaced.address);
  EXPECT_FALSE(table.OnHeard(node, kStart));  // while it is being pinged
  EXPECT_FALSE(table.OnFailed(node.id, kStart));
  EXPECT_FALSE(table.OnHeard(misplaced, kStart));
  EXPECT_TRUE(table.OnHeard(node, kStart));
  EXPECT_TRUE(table.OnAnswered(node, kStart));
  EXPECT_EQ(table.AddressOf(node.id), "right:1");
}

}  // namespace
}  // namespace koinon::dht
