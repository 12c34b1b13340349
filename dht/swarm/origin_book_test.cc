#include "dht/swarm/origin_book.h"

#include <gtest/gtest.h>

#include <string>

namespace koinon::dht {
namespace {

constexpr size_t kPieces = 3;

class OriginBookTest : public testing::Test {
 protected:
  static Bitmap All() {
    Bitmap all(kPieces);
    for (size_t i = 0; i < kPieces; ++i) all.Set(i);
    return all;
  }
  static Bitmap AllButTheLast() {
    Bitmap some(kPieces);
    for (size_t i = 0; i + 1 < kPieces; ++i) some.Set(i);
    return some;
  }
  static Digest Root() { return Sha256Of("content"); }

  OriginBook::Seat Join(const std::string& name,
                        const Bitmap& have = Bitmap(kPieces),
                        bool serves = true) {
    const Key node = name.empty() ? Key() : Sha256Of(name);
    return book_.Join(Root(), {.node = node, .serves = serves}, have);
  }
  // It has been here, and has all of it.
  void Finish(const std::string& name, bool serves = true) {
    book_.Leave(Join(name, All(), serves), /*whole=*/true);
  }
  // Whether one that comes now is given pieces: none that others hold.
  bool IsGiven(const std::string& name) {
    const OriginBook::Seat seat = Join(name);
    const bool given = book_.Choose(seat).has_value();
    book_.Leave(seat, /*whole=*/false);
    return given;
  }

  OriginBook book_{/*copies=*/1, /*max_finished=*/2};
};

TEST_F(OriginBookTest, WhoLeftWithAllOfIt_IsAHolder) {
  EXPECT_TRUE(IsGiven("late"));
  Finish("a");
  EXPECT_FALSE(IsGiven("late"));
}

TEST_F(OriginBookTest, WhoLeftWithAllOfIt_AndIsGone_IsNoHolder) {
  Finish("a");
  book_.OnGone(Sha256Of("another"));
  EXPECT_FALSE(IsGiven("late"));
  book_.OnGone(Sha256Of("a"));
  EXPECT_TRUE(IsGiven("late"));
}

// Its session ends before its stream: a killed process ends both at once.
TEST_F(OriginBookTest, WhoIsGone_AndThenLeaves_IsNoHolder) {
  const OriginBook::Seat seat = Join("a", All());
  EXPECT_FALSE(IsGiven("late"));  // it serves while it is there
  book_.OnGone(Sha256Of("a"));
  EXPECT_FALSE(IsGiven("late"));
  book_.Leave(seat, /*whole=*/true);
  EXPECT_TRUE(IsGiven("late"));
}

// Its session to the coordinator broke and came back; its stream went on.
TEST_F(OriginBookTest, WhoIsGone_AndTalksOn_IsAHolder) {
  const OriginBook::Seat seat = Join("a", AllButTheLast());
  book_.OnGone(Sha256Of("a"));
  book_.OnHave(seat, kPieces - 1);
  book_.Leave(seat, /*whole=*/true);
  EXPECT_FALSE(IsGiven("late"));
  book_.OnGone(Sha256Of("a"));
  EXPECT_TRUE(IsGiven("late"));
}

TEST_F(OriginBookTest, WhoIsGone_AndAsks_IsAHolder) {
  const OriginBook::Seat seat = Join("a", All());
  book_.OnGone(Sha256Of("a"));
  EXPECT_FALSE(book_.Grant(seat, 0));  // it has that
  book_.Leave(seat, /*whole=*/true);
  EXPECT_FALSE(IsGiven("late"));
}

TEST_F(OriginBookTest, WhoServesNobody_AndTalks_IsNoHolder) {
  const OriginBook::Seat seat = Join("a", AllButTheLast(), /*serves=*/false);
  book_.OnGone(Sha256Of("a"));
  book_.OnHave(seat, kPieces - 1);
  book_.Leave(seat, /*whole=*/true);
  EXPECT_TRUE(IsGiven("late"));
}

TEST_F(OriginBookTest, WhoComesAgain_HasWhatItSays) {
  Finish("a");
  const OriginBook::Seat again = Join("a");  // its disk was new
  EXPECT_TRUE(book_.Choose(again).has_value());
  EXPECT_TRUE(IsGiven("late"));
}

TEST_F(OriginBookTest, WhoComesAgain_BeforeItsStreamHasEnded_CountsOnce) {
  const OriginBook::Seat first = Join("a", All());
  const OriginBook::Seat again = Join("a");
  book_.Leave(first, /*whole=*/true);
  EXPECT_TRUE(book_.Choose(again).has_value());
  EXPECT_TRUE(IsGiven("late"));
}

// What was under way of the old stream is read after the new one has come.
TEST_F(OriginBookTest, WhoComesAgain_IsNotBelievedOnItsOldStream) {
  const OriginBook::Seat first = Join("a", AllButTheLast());
  const OriginBook::Seat again = Join("a");
  book_.OnHave(first, kPieces - 1);
  book_.Leave(first, /*whole=*/true);
  EXPECT_TRUE(book_.Choose(again).has_value());
  EXPECT_TRUE(IsGiven("late"));
}

TEST_F(OriginBookTest, NodesThatAreNotKnown_AreNotTakenForEachOther) {
  Finish("");
  book_.OnGone(Key());
  const OriginBook::Seat other = Join("");
  EXPECT_FALSE(book_.Choose(other).has_value());
}

TEST_F(OriginBookTest, WhoServesNobody_IsNoHolder_AndTakesNobodysPlace) {
  Finish("a");
  for (const char* leech : {"x", "y", "z"}) Finish(leech, /*serves=*/false);
  EXPECT_FALSE(IsGiven("late"));
  book_.OnGone(Sha256Of("a"));
  EXPECT_TRUE(IsGiven("late"));
}

TEST_F(OriginBookTest, MoreThanTheBound_ThoseThatLeftFirstAreNoHolders) {
  for (const char* name : {"a", "b", "c"}) Finish(name);
  book_.OnGone(Sha256Of("b"));
  EXPECT_FALSE(IsGiven("late"));  // of c
  book_.OnGone(Sha256Of("c"));
  EXPECT_TRUE(IsGiven("late"));
}

TEST_F(OriginBookTest, Contents_AreForgottenOnceNobodyFetchesThem) {
  const OriginBook::Seat seat = Join("a", All());
  book_.Forget([](const Digest&) { return false; });
  book_.Leave(seat, /*whole=*/true);  // it was kept for that one
  EXPECT_FALSE(IsGiven("late"));
  book_.Forget([](const Digest& root) { return root == Root(); });
  EXPECT_FALSE(IsGiven("late"));
  book_.Forget([](const Digest&) { return false; });
  EXPECT_TRUE(IsGiven("late"));
}

}  // namespace
}  // namespace koinon::dht
