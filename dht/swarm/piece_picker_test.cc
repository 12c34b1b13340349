#include "dht/swarm/piece_picker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace koinon::dht {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

constexpr PiecePicker::Source kOrigin = 99;
const absl::Time kStart = absl::UnixEpoch() + absl::Hours(1);

absl::Time At(double seconds) { return kStart + absl::Seconds(seconds); }

Bitmap Of(size_t size, const std::vector<uint32_t>& pieces) {
  Bitmap bitmap(size);
  for (const uint32_t piece : pieces) bitmap.Set(piece);
  return bitmap;
}

Bitmap All(size_t size) {
  Bitmap bitmap(size);
  for (size_t i = 0; i < size; ++i) bitmap.Set(i);
  return bitmap;
}

// A picker, and peers that have everything.
PiecePicker WithPeers(const PiecePicker::Options& options, uint64_t peers) {
  PiecePicker picker(options, Bitmap(options.pieces), kStart);
  for (uint64_t peer = 1; peer <= peers; ++peer) {
    picker.AddSource(peer, /*origin=*/false);
    picker.OnHave(peer, All(options.pieces));
  }
  return picker;
}

bool IsNothing(const PiecePicker::Wants& wants) {
  return wants.pieces.empty() && wants.any == 0 && wants.cancel.empty();
}

TEST(PiecePickerTest, Next_RarestFirst_WithinTheBound) {
  PiecePicker picker({.pieces = 9, .in_flight_per_source = 2}, Bitmap(9),
                     kStart);
  picker.AddSource(1, false);
  picker.AddSource(2, false);
  picker.OnHave(1, Of(9, {0, 1, 2, 3}));
  picker.OnHave(2, Of(9, {0, 1}));
  const auto first = picker.Next(1, kStart).pieces;
  EXPECT_THAT(first, UnorderedElementsAre(2, 3));
  EXPECT_TRUE(IsNothing(picker.Next(1, kStart)));
  EXPECT_TRUE(picker.OnPiece(1, first[0], At(1)));
  const auto next = picker.Next(1, At(1)).pieces;
  ASSERT_THAT(next, SizeIs(1));
  EXPECT_LT(next[0], 2u);
  EXPECT_THAT(picker.Next(2, At(1)).pieces, ElementsAre(1 - next[0]));
}

TEST(PiecePickerTest, Next_WhatAnEarlierFetchLeft_IsNotAskedFor) {
  PiecePicker picker({.pieces = 4}, Of(4, {0, 2}), kStart);
  picker.AddSource(1, false);
  picker.OnHave(1, All(4));
  EXPECT_THAT(picker.Next(1, kStart).pieces, UnorderedElementsAre(1, 3));
}

TEST(PiecePickerTest, Next_SmallPieces_MoreAreInFlight) {
  const auto in_flight = [](int64_t piece_bytes) {
    return WithPeers({.pieces = 200, .piece_bytes = piece_bytes}, 1)
        .Next(1, kStart)
        .pieces.size();
  };
  EXPECT_EQ(in_flight(16 << 10), 32u);
  EXPECT_EQ(in_flight(64 << 10), 32u);
  EXPECT_EQ(in_flight(256 << 10), 8u);
  EXPECT_EQ(in_flight(1 << 20), 2u);
  EXPECT_EQ(in_flight(4 << 20), 2u);
}

TEST(PiecePickerTest, Next_Ties_AreDrawnBySeed) {
  const auto first = [](uint64_t seed) {
    return WithPeers({.pieces = 200, .seed = seed}, 1).Next(1, kStart).pieces;
  };
  EXPECT_EQ(first(1), first(1));
  std::set<std::vector<uint32_t>> firsts;
  for (uint64_t seed = 0; seed < 20; ++seed) firsts.insert(first(seed));
  EXPECT_GE(firsts.size(), 19u);
}

TEST(PiecePickerTest, Next_OnItsWay_IsAskedOfNobodyElse) {
  PiecePicker picker = WithPeers({.pieces = 8, .in_flight_per_source = 4}, 3);
  std::vector<uint32_t> pieces = picker.Next(1, kStart).pieces;
  const auto more = picker.Next(2, kStart).pieces;
  pieces.insert(pieces.end(), more.begin(), more.end());
  std::sort(pieces.begin(), pieces.end());
  EXPECT_THAT(pieces, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
  EXPECT_TRUE(IsNothing(picker.Next(3, At(7.9))));
}

TEST(PiecePickerTest, Next_LastPieces_AreAskedOfTwoAndCancelled) {
  PiecePicker picker =
      WithPeers({.pieces = 2, .endgame_pieces = 2, .endgame_copies = 2}, 3);
  EXPECT_THAT(picker.Next(1, kStart).pieces, SizeIs(2));
  EXPECT_THAT(picker.Next(2, kStart).pieces, SizeIs(2));
  EXPECT_TRUE(IsNothing(picker.Next(3, kStart)));
  EXPECT_TRUE(IsNothing(picker.Next(2, kStart)));
  EXPECT_TRUE(picker.OnPiece(2, 0, At(1)));
  EXPECT_THAT(picker.Next(1, At(1)).cancel, ElementsAre(0));
  EXPECT_THAT(picker.Next(1, At(1)).cancel, IsEmpty());
  EXPECT_TRUE(picker.OnPiece(1, 1, At(1)));
  EXPECT_TRUE(picker.done());
  EXPECT_THAT(picker.Next(2, At(1)).cancel, ElementsAre(1));
  EXPECT_FALSE(picker.OnPiece(2, 1, At(1)));  // it was too late
}

TEST(PiecePickerTest, Next_LatePiece_IsAskedOfAnotherAndItsSourceOfLess) {
  PiecePicker picker = WithPeers({.pieces = 20, .in_flight_per_source = 2}, 2);
  const auto late = picker.Next(1, kStart).pieces;
  EXPECT_EQ(picker.next_deadline(kStart), At(8));
  EXPECT_TRUE(IsNothing(picker.Next(1, At(8))));
  std::set<uint32_t> asked;
  for (int i = 0; i < 10; ++i) {
    for (const uint32_t piece : picker.Next(2, At(8)).pieces) {
      asked.insert(piece);
      picker.OnPiece(2, piece, At(8));
    }
  }
  EXPECT_TRUE(asked.contains(late[0]) && asked.contains(late[1]));
  EXPECT_THAT(picker.Next(1, At(8)).cancel,
              UnorderedElementsAre(late[0], late[1]));
}

TEST(PiecePickerTest, Next_SlowSource_IsAskedForOneUntilItDelivers) {
  PiecePicker picker = WithPeers({.pieces = 50, .in_flight_per_source = 3}, 1);
  const auto asked = picker.Next(1, kStart).pieces;
  ASSERT_THAT(asked, SizeIs(3));
  picker.Next(1, At(8));  // all are late
  picker.OnPiece(1, asked[0], At(9));
  EXPECT_THAT(picker.Next(1, At(9)).pieces, IsEmpty());  // two of two
  picker.OnPiece(1, asked[1], At(9));
  EXPECT_THAT(picker.Next(1, At(9)).pieces, SizeIs(2));
}

TEST(PiecePickerTest, Next_PiecesComeFast_PatienceIsShorter) {
  PiecePicker picker = WithPeers({.pieces = 60, .in_flight_per_source = 1}, 2);
  absl::Time now = kStart;
  for (int i = 0; i < 20; ++i) {
    const auto pieces = picker.Next(1, now).pieces;
    ASSERT_THAT(pieces, SizeIs(1));
    now += absl::Milliseconds(10);
    picker.OnPiece(1, pieces[0], now);
  }
  ASSERT_THAT(picker.Next(1, now).pieces, SizeIs(1));
  EXPECT_EQ(picker.next_deadline(now), now + absl::Seconds(8) / 16);
}

TEST(PiecePickerTest, Next_NothingElseToGive_IsAskedForWhatComesSlowly) {
  PiecePicker picker({.pieces = 9, .in_flight_per_source = 1}, Bitmap(9),
                     kStart);
  picker.AddSource(1, false);
  picker.AddSource(2, false);
  picker.OnHave(1, Of(9, {0, 1}));
  picker.OnHave(2, 1);
  const uint32_t first = picker.Next(1, kStart).pieces[0];
  ASSERT_EQ(first, 0u);         // the rarer
  picker.OnPiece(1, 0, At(1));  // pieces take a second
  ASSERT_THAT(picker.Next(1, At(1)).pieces, ElementsAre(1));
  EXPECT_TRUE(IsNothing(picker.Next(2, At(2.9))));
  EXPECT_THAT(picker.Next(2, At(3)).pieces, ElementsAre(1));
}

TEST(PiecePickerTest, OnStarted_BeginsPatienceAnew) {
  PiecePicker picker = WithPeers({.pieces = 9, .in_flight_per_source = 1}, 2);
  const auto asked = picker.Next(1, kStart).pieces;
  picker.OnStarted(1, asked[0], At(5));
  picker.Next(1, At(8));
  EXPECT_EQ(picker.next_deadline(At(8)), At(13));
}

TEST(PiecePickerTest, RemoveSource_WhatWasOnItsWay_IsWantedAgain) {
  PiecePicker picker = WithPeers({.pieces = 4, .in_flight_per_source = 4}, 2);
  const auto asked = picker.Next(1, kStart).pieces;
  EXPECT_TRUE(IsNothing(picker.Next(2, kStart)));
  picker.RemoveSource(1);
  EXPECT_THAT(picker.Next(2, kStart).pieces,
              ::testing::UnorderedElementsAreArray(asked));
  EXPECT_TRUE(IsNothing(picker.Next(1, kStart)));
}

TEST(PiecePickerTest, OnRefused_IsAskedOfAnotherAndNotOfTheSame) {
  PiecePicker picker = WithPeers({.pieces = 9, .in_flight_per_source = 1}, 1);
  picker.AddSource(2, false);
  const uint32_t piece = picker.Next(1, kStart).pieces[0];
  picker.OnHave(2, piece);
  picker.OnRefused(1, piece, At(1));
  EXPECT_THAT(picker.Next(2, At(1)).pieces, ElementsAre(piece));
  for (int i = 0; i < 9; ++i) {
    for (const uint32_t other : picker.Next(1, At(1)).pieces) {
      EXPECT_NE(other, piece);
      picker.OnPiece(1, other, At(1));
    }
  }
  EXPECT_EQ(picker.have().count(), 8u);
}

TEST(PiecePickerTest, OnLied_IsBannedForAWhileThenForGood) {
  PiecePicker picker = WithPeers({.pieces = 9, .in_flight_per_source = 1}, 2);
  for (const double second : {0., 30., 60.}) {
    EXPECT_FALSE(picker.banned(1, At(second)));
    const auto asked = picker.Next(1, At(second)).pieces;
    ASSERT_THAT(asked, SizeIs(1));
    picker.OnLied(1, At(second));
    EXPECT_TRUE(picker.banned(1, At(second + 29.9)));
    EXPECT_TRUE(IsNothing(picker.Next(1, At(second + 29.9))));
    EXPECT_EQ(picker.banned_for_good(1), second == 60);
  }
  // It comes again, and has the one piece that nobody else has.
  picker.RemoveSource(1);
  picker.AddSource(1, false);
  picker.OnHave(1, All(9));
  EXPECT_TRUE(picker.banned(1, At(1000)));
  EXPECT_TRUE(IsNothing(picker.Next(1, At(1000))));
  EXPECT_FALSE(picker.banned(2, At(1000)));
}

TEST(PiecePickerTest, OnLied_WhatWasOnItsWay_IsAskedOfAnother) {
  PiecePicker picker = WithPeers({.pieces = 4, .in_flight_per_source = 4}, 2);
  ASSERT_THAT(picker.Next(1, kStart).pieces, SizeIs(4));
  picker.OnLied(1, kStart);
  EXPECT_THAT(picker.Next(2, kStart).pieces, SizeIs(4));
}

TEST(PiecePickerTest, UnknownSourcesAndPieces_AreIgnored) {
  PiecePicker picker = WithPeers({.pieces = 4}, 1);
  picker.OnHave(7, 1);
  picker.OnHave(7, All(4));
  picker.OnHave(1, 4);
  picker.OnRefused(7, 1, kStart);
  picker.OnRefused(1, 77, kStart);
  picker.OnStarted(7, 1, kStart);
  picker.OnStarted(1, 77, kStart);
  picker.OnNoneForYou(7, kStart);
  picker.OnNoneForYou(1, kStart);
  picker.RemoveSource(7);
  EXPECT_FALSE(picker.OnPiece(1, 4, kStart));
  EXPECT_TRUE(picker.OnPiece(7, 3, kStart));  // of a source that has just gone
  EXPECT_THAT(picker.Next(1, kStart).pieces, UnorderedElementsAre(0, 1, 2));
}

TEST(PiecePickerTest, NoPieces_IsDone) {
  PiecePicker picker = WithPeers({.pieces = 0}, 1);
  EXPECT_TRUE(picker.done());
  EXPECT_TRUE(IsNothing(picker.Next(1, kStart)));
  EXPECT_EQ(picker.next_deadline(kStart), absl::InfiniteFuture());
}

// ---- The origin ----

PiecePicker WithOrigin(const PiecePicker::Options& options) {
  PiecePicker picker(options, Bitmap(options.pieces), kStart);
  picker.AddSource(kOrigin, /*origin=*/true);
  return picker;
}

TEST(PiecePickerOriginTest, Next_IsAskedForAny_AsManyAsMayBeInFlight) {
  PiecePicker picker = WithOrigin({.pieces = 9, .in_flight_per_source = 4});
  EXPECT_EQ(picker.Next(kOrigin, kStart).any, 4u);
  EXPECT_TRUE(IsNothing(picker.Next(kOrigin, kStart)));
  picker.OnStarted(kOrigin, 5, kStart);
  EXPECT_TRUE(IsNothing(picker.Next(kOrigin, kStart)));
  EXPECT_TRUE(picker.OnPiece(kOrigin, 5, At(1)));
  EXPECT_EQ(picker.Next(kOrigin, At(1)).any, 1u);
  // It did not say that this one began.
  EXPECT_TRUE(picker.OnPiece(kOrigin, 6, At(1)));
  EXPECT_EQ(picker.Next(kOrigin, At(1)).any, 1u);
}

TEST(PiecePickerOriginTest, Next_WhatItChose_IsAskedOfNobodyElse) {
  PiecePicker picker = WithOrigin({.pieces = 9, .endgame_pieces = 0});
  picker.AddSource(1, false);
  picker.OnHave(1, Of(9, {5}));
  ASSERT_EQ(picker.Next(kOrigin, kStart).any, 4u);
  picker.OnStarted(kOrigin, 5, kStart);
  EXPECT_TRUE(IsNothing(picker.Next(1, kStart)));
}

TEST(PiecePickerOriginTest, Next_FewAreMissing_IsAskedForNoMore) {
  PiecePicker picker = WithOrigin({.pieces = 3, .in_flight_per_source = 2});
  picker.AddSource(1, false);
  picker.OnHave(1, All(3));
  ASSERT_THAT(picker.Next(1, kStart).pieces, SizeIs(2));
  EXPECT_EQ(picker.Next(kOrigin, kStart).any, 1u);
}

TEST(PiecePickerOriginTest, OnNoneForYou_IsAskedAgainByWhoGetsNothing) {
  PiecePicker picker = WithOrigin({.pieces = 9, .in_flight_per_source = 2});
  ASSERT_EQ(picker.Next(kOrigin, kStart).any, 2u);
  picker.OnNoneForYou(kOrigin, kStart);
  EXPECT_TRUE(IsNothing(picker.Next(kOrigin, At(1.9))));
  EXPECT_EQ(picker.next_deadline(kStart), At(2));
  EXPECT_EQ(picker.Next(kOrigin, At(2)).any, 1u);
  EXPECT_TRUE(IsNothing(picker.Next(kOrigin, At(9))));  // no answer yet
  picker.OnNoneForYou(kOrigin, At(9));
  // Then for a certain piece.
  EXPECT_TRUE(IsNothing(picker.Next(kOrigin, At(10.9))));
  PiecePicker::Wants wants = picker.Next(kOrigin, At(11));
  EXPECT_THAT(wants.pieces, SizeIs(1));
  EXPECT_TRUE(wants.last_resort);
  EXPECT_EQ(wants.any, 0u);
  picker.OnRefused(kOrigin, wants.pieces[0], At(11));
  EXPECT_TRUE(IsNothing(picker.Next(kOrigin, At(12.9))));
  wants = picker.Next(kOrigin, At(13));
  ASSERT_THAT(wants.pieces, SizeIs(1));
  // It is all that comes: from now on without waiting, up to the bound.
  picker.OnStarted(kOrigin, wants.pieces[0], At(13));
  EXPECT_TRUE(picker.OnPiece(kOrigin, wants.pieces[0], At(14)));
  wants = picker.Next(kOrigin, At(14));
  ASSERT_THAT(wants.pieces, SizeIs(1));
  EXPECT_TRUE(picker.OnPiece(kOrigin, wants.pieces[0], At(15)));
  wants = picker.Next(kOrigin, At(15));
  ASSERT_THAT(wants.pieces, SizeIs(2));
  EXPECT_TRUE(wants.last_resort);
  // Until a peer gives something.
  picker.AddSource(1, false);
  picker.OnHave(1, 8);
  picker.OnPiece(1, picker.have().Has(8) ? 7 : 8, At(16));
  for (const uint32_t piece : wants.pieces) {
    picker.OnPiece(kOrigin, piece, At(16));
  }
  EXPECT_THAT(picker.Next(kOrigin, At(16)).pieces, IsEmpty());
}

TEST(PiecePickerOriginTest,
     Idle_NothingComes_AreThoseWithNothingThatIsMissing) {
  PiecePicker picker = WithOrigin({.pieces = 4});
  for (const PiecePicker::Source source : {1, 2, 3}) {
    picker.AddSource(source, false);
    picker.OnHave(source, 0);
  }
  picker.OnHave(2, 1);
  ASSERT_THAT(picker.Next(2, At(0)).pieces, SizeIs(2));
  EXPECT_THAT(picker.Idle(At(7)), IsEmpty());  // 2 may still give them
  picker.OnPiece(2, 0, At(7));
  picker.OnPiece(2, 1, At(7));
  EXPECT_THAT(picker.Idle(At(7.4)), IsEmpty());
  EXPECT_THAT(picker.Idle(At(7.5)), ElementsAre(1, 2, 3));
  picker.OnHave(3, 2);
  EXPECT_THAT(picker.Idle(At(7.5)), ElementsAre(1, 2));
  ASSERT_THAT(picker.Next(3, At(7.5)).pieces, SizeIs(1));
  EXPECT_THAT(picker.Idle(At(7.5)), IsEmpty());
  picker.OnPiece(3, 2, At(8));
  picker.OnPiece(3, 3, At(8));
  EXPECT_THAT(picker.Idle(At(99)), IsEmpty());  // it is done
}

TEST(PiecePickerOriginTest, SetAlone_IsAskedAgainSooner) {
  for (const bool alone : {false, true}) {
    PiecePicker picker = WithOrigin({.pieces = 4});
    picker.SetAlone(alone);
    ASSERT_GT(picker.Next(kOrigin, At(0)).any, 0u);
    picker.OnNoneForYou(kOrigin, At(0));
    const absl::Time deadline = picker.next_deadline(At(0));
    const PiecePicker::Wants wants = picker.Next(kOrigin, At(0.5));
    EXPECT_EQ(wants.any, alone ? 1u : 0u);
    EXPECT_EQ(deadline, At(alone ? 0.5 : 2));
  }
}

TEST(PiecePickerOriginTest, OnNoneForYou_WhileThingsCome_IsNotAsked) {
  PiecePicker picker = WithOrigin({.pieces = 99, .in_flight_per_source = 1});
  picker.AddSource(1, false);
  picker.OnHave(1, All(99));
  ASSERT_EQ(picker.Next(kOrigin, kStart).any, 1u);
  picker.OnNoneForYou(kOrigin, kStart);
  for (int second = 0; second < 60; ++second) {
    const auto pieces = picker.Next(1, At(second)).pieces;
    ASSERT_THAT(pieces, SizeIs(1));
    EXPECT_TRUE(IsNothing(picker.Next(kOrigin, At(second + 0.5))));
    picker.OnPiece(1, pieces[0], At(second + 1));
  }
}

TEST(PiecePickerOriginTest, OnNoneForYou_PieceThatNobodyHas_AsksForAnyOnly) {
  PiecePicker picker = WithOrigin({.pieces = 199, .in_flight_per_source = 1});
  picker.AddSource(1, false);
  for (uint32_t piece = 0; piece < 198; ++piece) picker.OnHave(1, piece);
  picker.Next(kOrigin, kStart);
  picker.OnNoneForYou(kOrigin, kStart);
  int asked = 0;
  for (int second = 0; second < 100; ++second) {
    const auto pieces = picker.Next(1, At(second)).pieces;
    ASSERT_THAT(pieces, SizeIs(1));
    const auto wants = picker.Next(kOrigin, At(second));
    EXPECT_THAT(wants.pieces, IsEmpty());
    asked += wants.any;
    if (wants.any > 0) picker.OnNoneForYou(kOrigin, At(second));
    picker.OnPiece(1, pieces[0], At(second + 1));
  }
  EXPECT_GE(asked, 5);
  EXPECT_LE(asked, 50);
}

TEST(PiecePickerOriginTest, OnStarted_AfterNoneForYou_IsAskedForMore) {
  PiecePicker picker = WithOrigin({.pieces = 9, .in_flight_per_source = 3});
  picker.Next(kOrigin, kStart);
  picker.OnNoneForYou(kOrigin, kStart);
  ASSERT_EQ(picker.Next(kOrigin, At(2)).any, 1u);
  picker.OnStarted(kOrigin, 4, At(2));
  EXPECT_EQ(picker.Next(kOrigin, At(2)).any, 2u);
}

TEST(PiecePickerOriginTest, Next_OnlyTheOrigin_GetsEverything) {
  for (const size_t chosen : {0, 5, 40}) {
    PiecePicker picker = WithOrigin({.pieces = 40});
    size_t given = 0;
    absl::Time now = kStart;
    while (!picker.done() && now < At(60)) {
      const auto wants = picker.Next(kOrigin, now);
      for (uint32_t i = 0; i < wants.any; ++i) {
        if (given == chosen) {
          picker.OnNoneForYou(kOrigin, now);
          break;
        }
        uint32_t piece = 0;
        while (picker.have().Has(piece)) ++piece;
        picker.OnStarted(kOrigin, piece, now);
        picker.OnPiece(kOrigin, piece, now);
        ++given;
      }
      for (const uint32_t piece : wants.pieces) {
        picker.OnPiece(kOrigin, piece, now);
      }
      now += absl::Milliseconds(50);
    }
    EXPECT_TRUE(picker.done()) << chosen;
    EXPECT_LE(now, At(10)) << chosen;
  }
}

}  // namespace
}  // namespace koinon::dht
