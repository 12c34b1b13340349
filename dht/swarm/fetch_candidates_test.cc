#include "dht/swarm/fetch_candidates.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace koinon::dht {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr auto kTask = FetchCandidates::Namer::kTask;
constexpr auto kDht = FetchCandidates::Namer::kDht;
constexpr auto kPeer = FetchCandidates::Namer::kPeer;

Contact Named(const std::string& name) {
  return {
      .id = Sha256Of(name), .address = absl::StrCat(name, ":1"), .site = ""};
}

class FetchCandidatesTest : public testing::Test {
 protected:
  FetchCandidatesTest() : candidates_(OptionsOf()) {}
  static FetchCandidates::Options OptionsOf() {
    FetchCandidates::Options options;
    options.self = Sha256Of("self");
    options.max_candidates = 5;
    options.retry = absl::Seconds(1);
    options.longest_retry = absl::Seconds(4);
    return options;
  }
  // The address of who is next, or nothing.
  std::string Next(bool only_origin = false) {
    const auto next = candidates_.Next(now_, only_origin);
    if (!next.has_value()) return "";
    last_ = next->number;
    return next->contact.address;
  }

  FetchCandidates candidates_;
  absl::Time now_ = absl::FromUnixSeconds(1'000'000);
  FetchCandidates::Number last_ = 0;
};

TEST_F(FetchCandidatesTest, Candidates_AreAskedInTheOrderTheyCame) {
  candidates_.SetOrigin(Named("origin"));
  candidates_.Add(Named("a"), kTask);
  candidates_.Add(Named("b"), kTask);
  EXPECT_EQ(Next(), "origin:1");
  EXPECT_EQ(Next(), "a:1");
  EXPECT_EQ(Next(), "b:1");
  EXPECT_EQ(Next(), "");
  EXPECT_EQ(candidates_.connected(), 2);  // the origin is not counted
}

TEST_F(FetchCandidatesTest, ItselfAndKnownAndUnreachable_ArePassedOver) {
  candidates_.SetOrigin(Named("origin"));
  candidates_.Add(Named("origin"), kTask);
  candidates_.Add(Named("self"), kTask);
  candidates_.Add(Named("a"), kTask);
  candidates_.Add(Named("a"), kTask);
  Contact moved = Named("a");
  moved.address = "elsewhere:2";
  candidates_.Add(moved, kTask);
  candidates_.Add({.id = Sha256Of("b"), .address = "", .site = ""}, kTask);
  EXPECT_EQ(Next(), "origin:1");
  EXPECT_EQ(Next(), "a:1");
  EXPECT_EQ(Next(), "");
}

TEST_F(FetchCandidatesTest, WrongNamesForOthers_DoNotHideThem) {
  // A liar says that it is somebody else who is at b's address, and that c is
  // at another one.
  candidates_.Add({.id = Sha256Of("x"), .address = "b:1", .site = ""}, kTask);
  candidates_.Add({.id = Sha256Of("c"), .address = "y:1", .site = ""}, kTask);
  candidates_.Add(Named("b"), kTask);  // not before the others have failed
  EXPECT_EQ(Next(), "b:1");
  candidates_.OnFailed(last_, absl::UnauthenticatedError("found b"), now_);
  EXPECT_EQ(Next(), "y:1");
  candidates_.Add(Named("c"), kTask);
  EXPECT_EQ(Next(), "");
  candidates_.OnFailed(last_, absl::UnavailableError("nobody"), now_);
  for (int again = 0; again < 2; ++again) {
    candidates_.Add(Named("b"), kTask);
    candidates_.Add(Named("c"), kTask);
  }
  EXPECT_EQ(Next(), "b:1");
  EXPECT_EQ(Next(), "c:1");
  EXPECT_EQ(Next(), "");
}

TEST_F(FetchCandidatesTest, WrongSite_DoesNotHideANode) {
  Contact far = Named("a");
  far.site = "far";
  candidates_.Add(far, kTask);
  EXPECT_EQ(Next(), "a:1");
  candidates_.OnFailed(last_, absl::PermissionDeniedError("far"), now_);
  candidates_.Add(far, kTask);
  EXPECT_EQ(Next(), "");
  candidates_.Add(Named("a"), kTask);
  EXPECT_EQ(Next(), "a:1");
}

TEST_F(FetchCandidatesTest, Liar_IsKnownAtAnotherAddress) {
  candidates_.Add(Named("a"), kTask);
  EXPECT_EQ(Next(), "a:1");
  candidates_.OnLied(last_, absl::DataLossError("leaf 3"), now_);
  candidates_.Add({.id = Sha256Of("a"), .address = "b:1", .site = ""}, kTask);
  EXPECT_EQ(Next(), "");
}

TEST_F(FetchCandidatesTest, Candidates_AreBounded) {
  for (int i = 0; i < 100; ++i) {
    candidates_.Add(Named(absl::StrCat("n", i)), kTask);
  }
  int asked = 0;
  while (!Next().empty()) ++asked;
  EXPECT_EQ(asked, 5);
}

// A hundred names of a liar, and then the one that has it.
TEST_F(FetchCandidatesTest, WhoeverIsBelievedMore_FindsRoom) {
  for (const char* name : {"a", "b"}) candidates_.Add(Named(name), kTask);
  candidates_.Add(Named("c"), kDht);
  for (int i = 0; i < 100; ++i) {
    candidates_.Add(Named(absl::StrCat("invented", i)), kPeer);
  }
  candidates_.Add(Named("d"), kDht);
  candidates_.Add(Named("e"), kTask);
  candidates_.Add(Named("f"), kDht);  // nobody is believed less than c and d
  candidates_.Add(Named("g"), kPeer);
  std::vector<std::string> asked;
  while (true) {
    const std::string next = Next();
    if (next.empty()) break;
    asked.push_back(next);
  }
  EXPECT_THAT(asked, ElementsAre("a:1", "b:1", "c:1", "d:1", "e:1"));
}

TEST_F(FetchCandidatesTest, WhoHasFailed_GivesWayToTheLike) {
  for (const char* name : {"a", "b"}) candidates_.Add(Named(name), kTask);
  for (const char* name : {"c", "d", "e"}) candidates_.Add(Named(name), kDht);
  std::vector<FetchCandidates::Number> numbers;
  while (!Next().empty()) numbers.push_back(last_);
  ASSERT_EQ(numbers.size(), 5);
  candidates_.OnLied(numbers[2], absl::DataLossError("leaf 3"), now_);
  for (const size_t i : {4, 3, 0, 1}) {
    candidates_.OnFailed(numbers[i], absl::UnavailableError("gone"), now_);
  }
  candidates_.Add(Named("x"), kPeer);  // in nobody's place
  EXPECT_EQ(Next(), "");
  candidates_.Add(Named("f"), kDht);  // in d's: a liar is known for longer
  EXPECT_EQ(Next(), "f:1");
  EXPECT_GT(last_, numbers[4]);
  // Too late to be of anybody: neither f nor who was there before it.
  candidates_.OnWorked(numbers[3]);
  candidates_.OnGave(numbers[3]);
  candidates_.OnIdle(numbers[3], now_);
  candidates_.OnFailed(numbers[3], absl::UnavailableError("late"), now_);
  candidates_.OnLied(numbers[3], absl::DataLossError("late"), now_);
  EXPECT_EQ(candidates_.connected(), 1);
  now_ += absl::Minutes(1);
  EXPECT_EQ(Next(), "a:1");
  EXPECT_EQ(last_, numbers[0]);
  EXPECT_EQ(Next(), "b:1");
  EXPECT_EQ(Next(), "c:1");
  EXPECT_EQ(last_, numbers[2]);
  EXPECT_EQ(Next(), "e:1");
  EXPECT_EQ(Next(), "");
}

// Each may be a connection that nobody answers.
TEST_F(FetchCandidatesTest, NamesOfPeers_DoNotTakeAllPlaces) {
  FetchCandidates::Options options = OptionsOf();
  options.max_candidates = 20;
  options.max_unproven = 2;
  FetchCandidates many(options);
  const auto next = [&] {
    const auto found = many.Next(now_, false);
    last_ = found.has_value() ? found->number : 0;
    return found.has_value() ? found->contact.address : "";
  };
  for (int i = 0; i < 10; ++i) many.Add(Named(absl::StrCat("p", i)), kPeer);
  many.Add(Named("d"), kDht);
  EXPECT_EQ(many.due(now_), 11);
  EXPECT_EQ(next(), "p0:1");
  const auto first = last_;
  EXPECT_EQ(next(), "p1:1");
  EXPECT_EQ(many.due(now_), 1);
  EXPECT_EQ(next(), "d:1");
  EXPECT_EQ(next(), "");
  EXPECT_EQ(many.due(now_), 0);
  EXPECT_EQ(many.next_attempt(false), absl::InfiniteFuture());
  many.OnGave(first);  // there is somebody
  EXPECT_EQ(many.next_attempt(false), absl::InfinitePast());
  EXPECT_EQ(next(), "p2:1");
  const auto failing = last_;
  EXPECT_EQ(next(), "");
  many.OnFailed(failing, absl::UnavailableError("gone"), now_);
  EXPECT_EQ(next(), "p3:1");
  EXPECT_EQ(next(), "");
  many.Add(Named("p4"), kDht);  // the DHT knows it too
  EXPECT_EQ(next(), "p4:1");
  EXPECT_EQ(next(), "");
}

TEST_F(FetchCandidatesTest, NamesOfPeers_HideNobody) {
  const Contact lies[] = {
      {.id = Sha256Of("a"), .address = "x:1", .site = ""},
      {.id = Sha256Of("x"), .address = "a:1", .site = ""},
      {.id = Key(), .address = "a:1", .site = "far"},
      {.id = Sha256Of("a"), .address = "a:1", .site = "far"},
  };
  for (const Contact& lie : lies) {
    for (const auto believed : {kTask, kDht}) {
      FetchCandidates candidates(OptionsOf());
      candidates.Add(lie, kPeer);
      candidates.Add(Named("a"), believed);
      candidates.Add(Named("a"), believed);
      std::vector<Contact> asked;
      while (const auto next = candidates.Next(now_, false)) {
        asked.push_back(next->contact);
      }
      EXPECT_THAT(asked, ElementsAre(lie, Named("a")));
    }
  }
}

TEST_F(FetchCandidatesTest, Failed_IsAskedAgainLaterAndLater) {
  candidates_.Add(Named("a"), kTask);
  for (const int wait : {1, 2, 4, 4}) {
    EXPECT_EQ(Next(), "a:1");
    candidates_.OnFailed(last_, absl::UnavailableError("gone"), now_);
    EXPECT_EQ(candidates_.next_attempt(false), now_ + absl::Seconds(wait));
    now_ += absl::Seconds(wait) - absl::Milliseconds(1);
    EXPECT_EQ(Next(), "");
    now_ += absl::Milliseconds(1);
  }
  EXPECT_EQ(Next(), "a:1");
  candidates_.OnWorked(last_);
  candidates_.OnFailed(last_, absl::UnavailableError("gone"), now_);
  EXPECT_EQ(candidates_.next_attempt(false), now_ + absl::Seconds(1));
}

TEST_F(FetchCandidatesTest, New_ComeBeforeThoseThatFailed) {
  candidates_.Add(Named("a"), kTask);
  EXPECT_EQ(Next(), "a:1");
  candidates_.OnFailed(last_, absl::UnavailableError("gone"), now_);
  now_ += absl::Minutes(1);
  candidates_.Add(Named("b"), kTask);
  EXPECT_EQ(Next(), "b:1");
  EXPECT_EQ(Next(), "a:1");
}

TEST_F(FetchCandidatesTest, RefusedForGood_IsNotAskedAgain) {
  candidates_.Add(Named("a"), kTask);
  EXPECT_TRUE(candidates_.hopeful());
  EXPECT_EQ(Next(), "a:1");
  candidates_.OnFailed(last_, absl::PermissionDeniedError("other site"), now_);
  now_ += absl::Hours(1);
  EXPECT_EQ(Next(), "");
  EXPECT_FALSE(candidates_.hopeful());
  EXPECT_EQ(candidates_.next_attempt(false), absl::InfiniteFuture());
  EXPECT_THAT(candidates_.Failures(), HasSubstr("other site"));
}

TEST_F(FetchCandidatesTest, Hope_IsInWhoIsAskedOrMayComeBack) {
  EXPECT_FALSE(candidates_.hopeful());
  candidates_.Add(Named("a"), kTask);
  Next();
  EXPECT_TRUE(candidates_.hopeful());  // it may have it
  candidates_.OnFailed(last_, absl::NotFoundError("not here"), now_);
  EXPECT_FALSE(candidates_.hopeful());
  now_ += absl::Minutes(1);
  Next();  // but it is asked again
  candidates_.OnFailed(last_, absl::UnavailableError("refused"), now_);
  EXPECT_TRUE(candidates_.hopeful());
}

TEST_F(FetchCandidatesTest, Alone_WhenAllOthersHaveFailed) {
  candidates_.SetOrigin(Named("origin"));
  EXPECT_TRUE(candidates_.alone());
  candidates_.Add(Named("a"), kTask);
  EXPECT_FALSE(candidates_.alone());  // it has not been tried
  ASSERT_EQ(Next(), "origin:1");
  ASSERT_EQ(Next(), "a:1");
  EXPECT_FALSE(candidates_.alone());  // it may answer yet
  candidates_.OnFailed(last_, absl::UnavailableError("refused"), now_);
  EXPECT_TRUE(candidates_.alone());
}

TEST_F(FetchCandidatesTest, Liar_IsBannedAndForGoodAfterThreeTimes) {
  candidates_.Add(Named("a"), kTask);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(Next(), "a:1");
    candidates_.OnLied(last_, absl::DataLossError("wrong leaf"), now_);
    now_ += absl::Seconds(29);
    EXPECT_EQ(Next(), "");
    now_ += absl::Seconds(1);
  }
  now_ += absl::Hours(1);
  EXPECT_EQ(Next(), "");
  EXPECT_THAT(candidates_.Failures(), HasSubstr("wrong leaf"));
}

TEST_F(FetchCandidatesTest, OnlyTheOrigin_WhenThereIsNoRoom) {
  candidates_.Add(Named("a"), kTask);
  candidates_.SetOrigin(Named("origin"));
  EXPECT_EQ(Next(/*only_origin=*/true), "origin:1");
  EXPECT_EQ(Next(/*only_origin=*/true), "");
  candidates_.OnFailed(last_, absl::UnavailableError("gone"), now_);
  EXPECT_EQ(candidates_.next_attempt(true), now_ + absl::Seconds(1));
  EXPECT_EQ(candidates_.next_attempt(false), absl::InfinitePast());
}

TEST_F(FetchCandidatesTest, WhoWasAskedLongestAgo_ComesFirst) {
  for (const char* name : {"a", "b", "c"}) candidates_.Add(Named(name), kTask);
  std::vector<FetchCandidates::Number> numbers;
  for (int i = 0; i < 3; ++i) {
    ASSERT_NE(Next(), "");
    numbers.push_back(last_);
  }
  for (const auto number : {numbers[1], numbers[0], numbers[2]}) {
    candidates_.OnFailed(number, absl::UnavailableError("gone"), now_);
    now_ += absl::Seconds(1);
    EXPECT_EQ(candidates_.due(now_), 1);
    ASSERT_NE(Next(), "");
    EXPECT_EQ(last_, number);
  }
  for (const auto number : numbers) {
    candidates_.OnFailed(number, absl::UnavailableError("gone"), now_);
  }
  EXPECT_EQ(candidates_.due(now_), 0);
  now_ += absl::Minutes(1);
  EXPECT_EQ(candidates_.due(now_), 3);
  EXPECT_EQ(Next(), "b:1");
  EXPECT_EQ(Next(), "a:1");
  EXPECT_EQ(Next(), "c:1");
}

TEST_F(FetchCandidatesTest, Due_DoesNotCountTheOrigin) {
  candidates_.SetOrigin(Named("origin"));
  EXPECT_EQ(candidates_.due(now_), 0);
  candidates_.Add(Named("a"), kTask);
  EXPECT_EQ(candidates_.due(now_), 1);
}

TEST_F(FetchCandidatesTest, Idle_IsAskedAgainLaterAndLaterUntilItGives) {
  candidates_.Add(Named("a"), kTask);
  for (const int wait : {2, 4, 4}) {
    EXPECT_EQ(Next(), "a:1");
    candidates_.OnWorked(last_);  // it can be opened: that is no news
    candidates_.OnIdle(last_, now_);
    EXPECT_TRUE(candidates_.hopeful());
    EXPECT_EQ(candidates_.connected(), 0);
    EXPECT_EQ(candidates_.next_attempt(false), now_ + absl::Seconds(wait));
    now_ += absl::Seconds(wait);
  }
  EXPECT_THAT(candidates_.Failures(), HasSubstr("nothing that is missing"));
  EXPECT_EQ(Next(), "a:1");
  candidates_.OnGave(last_);
  candidates_.OnIdle(last_, now_);
  EXPECT_EQ(candidates_.next_attempt(false), now_ + absl::Seconds(2));
}

// All have nothing, and all open: as many give way as there are others.
TEST_F(FetchCandidatesTest, SixtyForTenPlaces_EachGetsATurn) {
  FetchCandidates::Options options = OptionsOf();
  options.max_candidates = 60;
  options.longest_retry = absl::Seconds(10);
  FetchCandidates many(options);
  for (int i = 0; i < 60; ++i) many.Add(Named(absl::StrCat("n", i)), kTask);
  std::vector<int> turns(61);
  std::deque<FetchCandidates::Number> places;
  const int rounds = 60;  // a second each
  int opened = 0;
  for (int round = 0; round < rounds; ++round, now_ += absl::Seconds(1)) {
    const size_t others = places.size() < 10 ? 0 : many.due(now_);
    for (size_t n = std::min<size_t>(5, others); n > 0; --n) {
      many.OnIdle(places.front(), now_);
      places.pop_front();
    }
    while (places.size() < 10) {
      const auto next = many.Next(now_, false);
      if (!next.has_value()) break;
      many.OnWorked(next->number);
      places.push_back(next->number);
      ++turns[next->number];
      ++opened;
    }
    // The last of the sixty after fifty others, five a round.
    if (round == 10) {
      EXPECT_EQ(std::count(turns.begin() + 1, turns.end(), 1), 60);
    }
  }
  const auto [least, most] =
      std::minmax_element(turns.begin() + 1, turns.end());
  EXPECT_GE(*least, 4);
  EXPECT_LE(*most - *least, 1);
  EXPECT_LE(opened, 10 + 5 * (rounds - 1));
}

// Eleven for ten places: whoever gives way rests, so that nobody is opened all
// the time.
TEST_F(FetchCandidatesTest, FewForTheirPlaces_AreOpenedLessAndLess) {
  FetchCandidates::Options options = OptionsOf();
  options.max_candidates = 11;
  options.longest_retry = absl::Seconds(10);
  FetchCandidates many(options);
  for (int i = 0; i < 11; ++i) many.Add(Named(absl::StrCat("n", i)), kTask);
  std::deque<FetchCandidates::Number> places;
  int opened = 0;
  for (int tick = 0; tick < 600; ++tick, now_ += absl::Milliseconds(100)) {
    if (places.size() == 10 && many.due(now_) > 0) {
      many.OnIdle(places.front(), now_);
      places.pop_front();
    }
    while (places.size() < 10) {
      const auto next = many.Next(now_, false);
      ASSERT_TRUE(next.has_value());  // no more give way than there are others
      many.OnWorked(next->number);
      places.push_back(next->number);
      ++opened;
    }
  }
  // In a minute; by two seconds each, then four, then eight.
  EXPECT_GE(opened, 11 + 11);
  EXPECT_LE(opened, 11 + 30);
}

TEST_F(FetchCandidatesTest, Failures_AreNamedAndBounded) {
  EXPECT_THAT(candidates_.Failures(), HasSubstr("nobody"));
  FetchCandidates::Options options = OptionsOf();
  options.max_candidates = 50;
  FetchCandidates many(options);
  for (int i = 0; i < 20; ++i) many.Add(Named(absl::StrCat("n", i)), kTask);
  while (const auto next = many.Next(now_, false)) {
    many.OnFailed(next->number, absl::UnavailableError("gone"), now_);
  }
  EXPECT_THAT(many.Failures(), HasSubstr("n4:1: UNAVAILABLE: gone"));
  EXPECT_THAT(many.Failures(), HasSubstr("and 15 more"));
}

}  // namespace
}  // namespace koinon::dht
