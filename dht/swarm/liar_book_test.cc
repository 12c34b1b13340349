#include "dht/swarm/liar_book.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "base/digest.h"
#include "base/status_matchers.h"

namespace koinon::dht {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

Key Node(int number) { return Sha256Of(absl::StrCat("node ", number)); }
constexpr double kDay = 24 * 60 * 60;
absl::Time At(double seconds) {
  return absl::UnixEpoch() + absl::Seconds(seconds);
}

TEST(LiarBookTest, Node_ThatNeverLied_MayBeAsked) {
  const LiarBook book;
  EXPECT_THAT(book.MayAsk(Node(1), At(0)), IsOk());
  EXPECT_EQ(book.lies(), 0);
  EXPECT_THAT(book.Worst(5), IsEmpty());
}

TEST(LiarBookTest, Liar_IsBannedForAWhileThenUntilACleanDay) {
  LiarBook book;
  for (const int lies : {1, 2}) {
    const double now = 100.0 * lies;
    EXPECT_EQ(book.Count(Node(1), At(now)), lies);
    EXPECT_THAT(book.MayAsk(Node(1), At(now)),
                StatusIs(absl::StatusCode::kUnavailable));
    EXPECT_THAT(book.MayAsk(Node(1), At(now + 29.9)),
                StatusIs(absl::StatusCode::kUnavailable));
    EXPECT_THAT(book.MayAsk(Node(1), At(now + 30)), IsOk());
  }
  EXPECT_EQ(book.Count(Node(1), At(300)), 3);
  EXPECT_THAT(book.MayAsk(Node(1), At(300 + kDay - 1)),
              StatusIs(absl::StatusCode::kPermissionDenied));
  EXPECT_THAT(book.MayAsk(Node(1), At(300 + kDay)), IsOk());
  EXPECT_THAT(book.MayAsk(Node(2), At(300)), IsOk());
}

TEST(LiarBookTest, LiesBeforeACleanDay_AreForgotten) {
  LiarBook book;
  for (const int lies : {1, 2, 3}) book.Count(Node(1), At(lies));
  double now = 3;
  for (const int lies : {4, 5, 6, 7}) {  // a bad sector each day
    now += kDay;
    EXPECT_EQ(book.Count(Node(1), At(now)), lies);
    EXPECT_THAT(book.MayAsk(Node(1), At(now + 29)),
                StatusIs(absl::StatusCode::kUnavailable));
    EXPECT_THAT(book.MayAsk(Node(1), At(now + 30)), IsOk());
  }
  EXPECT_THAT(book.Worst(1), ElementsAre(Pair(Node(1), 7)));
}

TEST(LiarBookTest, LiesWithoutACleanDayBetween_AddUp) {
  LiarBook book;
  for (const int lies : {0, 1, 2}) book.Count(Node(1), At(lies * (kDay - 1)));
  EXPECT_THAT(book.MayAsk(Node(1), At(3 * kDay - 3)),
              StatusIs(absl::StatusCode::kPermissionDenied));
  EXPECT_THAT(book.MayAsk(Node(1), At(3 * kDay - 2)), IsOk());
}

TEST(LiarBookTest, ClockThatWasSetBack_LengthensNoBan) {
  LiarBook book;
  book.Count(Node(1), At(1e6));
  EXPECT_THAT(book.MayAsk(Node(1), At(1000)), IsOk());
  for (const int lies : {2, 3}) {
    EXPECT_EQ(book.Count(Node(1), At(1e6 - kDay)), lies);
  }
  EXPECT_THAT(book.MayAsk(Node(1), At(1e6)), IsOk());
  EXPECT_THAT(book.MayAsk(Node(1), At(1000)), IsOk());
}

TEST(LiarBookTest, NodeWithoutAnId_IsCountedAndNotBanned) {
  LiarBook book;
  for (int i = 0; i < 5; ++i) EXPECT_EQ(book.Count(Key(), At(i)), 1);
  EXPECT_THAT(book.MayAsk(Key(), At(5)), IsOk());
  EXPECT_EQ(book.lies(), 5);
  EXPECT_THAT(book.Worst(5), IsEmpty());
}

TEST(LiarBookTest, FullBook_ForgetsWhoseBanEndsFirst) {
  LiarBook book({.max_nodes = 3});
  for (int i = 0; i < 3; ++i) book.Count(Node(1), At(0));  // a day
  book.Count(Node(2), At(20));
  book.Count(Node(3), At(10));
  book.Count(Node(2), At(25));  // there already: nobody goes for it
  EXPECT_THAT(book.MayAsk(Node(3), At(30)),
              StatusIs(absl::StatusCode::kUnavailable));
  book.Count(Node(4), At(30));
  EXPECT_THAT(book.MayAsk(Node(3), At(30)), IsOk());
  EXPECT_THAT(book.Worst(9), ElementsAre(Pair(Node(1), 3), Pair(Node(2), 2),
                                         Pair(Node(4), 1)));
  EXPECT_THAT(book.Worst(1), ElementsAre(Pair(Node(1), 3)));
  EXPECT_EQ(book.lies(), 7);
}

}  // namespace
}  // namespace koinon::dht
