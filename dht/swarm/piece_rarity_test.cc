#include "dht/swarm/piece_rarity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/random.h"

namespace koinon::dht {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

bool Any(uint32_t) { return true; }

TEST(PieceRarityTest, Rarest_FewerSources_ComeFirst) {
  PieceRarity rarity(Bitmap(3), 1);
  rarity.Gain(0);
  rarity.Gain(0);
  rarity.Gain(2);
  EXPECT_THAT(rarity.Rarest(nullptr, 3, Any), ElementsAre(1, 2, 0));
  rarity.Lose(0);
  rarity.Lose(0);
  rarity.Gain(1);
  EXPECT_THAT(rarity.Rarest(nullptr, 1, Any), ElementsAre(0));
  EXPECT_THAT(rarity.Rarest(nullptr, 0, Any), IsEmpty());
}

TEST(PieceRarityTest, Rarest_OnlyWhatIsOpenAndWanted) {
  Bitmap have(70);
  have.Set(69);
  PieceRarity rarity(have, 1);
  PieceWords has(rarity.words());
  for (const uint32_t piece : {0, 64, 65, 68, 69}) SetPiece(&has, piece);
  rarity.SetAsked(64, true);
  rarity.Arrived(65);
  EXPECT_THAT(rarity.Rarest(&has, 9, Any), UnorderedElementsAre(0, 68));
  EXPECT_THAT(rarity.Rarest(&has, 9, [](uint32_t i) { return i > 9; }),
              ElementsAre(68));
  EXPECT_THAT(rarity.Asked(has, 9, Any), ElementsAre(64));
  EXPECT_EQ(rarity.open(),
            67u);  // of 70: one was there, one came, one is asked
}

TEST(PieceRarityTest, AnyUnavailable_UntilAllOpenPiecesHaveSources) {
  PieceRarity rarity(Bitmap(3), 1);
  rarity.Gain(0);
  rarity.SetAsked(1, true);
  EXPECT_TRUE(rarity.AnyUnavailable());
  rarity.Gain(2);
  EXPECT_FALSE(rarity.AnyUnavailable());
  rarity.SetAsked(1, false);
  EXPECT_TRUE(rarity.AnyUnavailable());
}

TEST(PieceRarityTest, Rarest_Ties_DependOnTheSeed) {
  const auto order = [](uint64_t seed) {
    return PieceRarity(Bitmap(40), seed).Rarest(nullptr, 40, Any);
  };
  EXPECT_EQ(order(1), order(1));
  EXPECT_NE(order(1), order(2));
}

TEST(PieceRarityTest, Rarest_RandomStates_AgreesWithSorting) {
  constexpr uint64_t kSeed = 21;
  Random random(kSeed);
  for (int round = 0; round < 200; ++round) {
    const size_t pieces = 1 + random.NextBelow(200);
    PieceRarity rarity(Bitmap(pieces), random.NextUint64());
    std::vector<uint32_t> sources(pieces);
    std::vector<uint32_t> open;
    for (uint32_t i = 0; i < pieces; ++i) {
      sources[i] = static_cast<uint32_t>(random.NextBelow(5));
      for (uint32_t n = 0; n < sources[i]; ++n) rarity.Gain(i);
      rarity.SetAsked(i, random.NextBelow(2) == 0);
      if (!rarity.asked(i)) open.push_back(i);
    }
    EXPECT_EQ(rarity.open(), open.size()) << "seed " << kSeed;
    const size_t count = random.NextBelow(10);
    const std::vector<uint32_t> found = rarity.Rarest(nullptr, count, Any);
    ASSERT_EQ(found.size(), std::min(count, open.size()));
    std::sort(open.begin(), open.end(),
              [&](uint32_t a, uint32_t b) { return sources[a] < sources[b]; });
    for (size_t i = 0; i < found.size(); ++i) {
      EXPECT_EQ(sources[found[i]], sources[open[i]]) << "seed " << kSeed;
    }
  }
}

}  // namespace
}  // namespace koinon::dht
