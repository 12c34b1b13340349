#include "coordinator/round/members.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace koinon::coordinator {
namespace {

using ::testing::ElementsAre;

const std::vector<WorkerId> kCandidates = {"a", "b", "c", "d", "e"};

Members MakeMembers() {
  Members members;
  members["a"] = Member{};
  members["b"] = Departed(Departure::kLost, "lease ran out");
  members["c"] = Departed(Departure::kDeclined, "no such file");
  members["d"] = Departed(Departure::kUnusable, "refused");
  return members;
}

TEST(MembersTest, NotMembers_AreThoseNeverAsked) {
  EXPECT_THAT(NotMembers(kCandidates, MakeMembers()), ElementsAre("e"));
}

TEST(MembersTest, Askable_AreTheDepartedWhoseUpdateWasNotRefused) {
  EXPECT_THAT(Askable(kCandidates, MakeMembers()), ElementsAre("b", "c"));
}

TEST(MembersTest, MayDeliver_PendingOrLost_Only) {
  Members members = MakeMembers();
  EXPECT_TRUE(MayDeliver(members["a"]));
  EXPECT_TRUE(MayDeliver(members["b"]));
  EXPECT_FALSE(MayDeliver(members["c"]));
  EXPECT_FALSE(MayDeliver(members["d"]));
  EXPECT_FALSE(MayDeliver(Member{MemberState::kReceived, "", {}}));
}

TEST(MembersTest, Tally_FollowsEveryChange) {
  Tally tally;
  const Member offered;
  const Member training{MemberState::kTraining, "", {}};
  const Member received{MemberState::kReceived, "", {}};
  tally.Add(offered);
  tally.Add(training);
  tally.Add(received);
  EXPECT_EQ(tally.pending, 2u);
  EXPECT_EQ(tally.received, 1u);
  tally.Remove(training);
  tally.Remove(received);
  tally.Add(Departed(Departure::kLost, ""));
  EXPECT_EQ(tally.pending, 1u);
  EXPECT_EQ(tally.received, 0u);
}

TEST(MembersTest, NotPending_LeavesOutWhoIsAtWork) {
  Members members;
  members["a"].state = MemberState::kOffered;
  members["b"].state = MemberState::kTraining;
  members["c"].state = MemberState::kReceived;
  members["d"] = Departed(Departure::kLost, "");
  const std::vector<WorkerId> idle =
      NotPending({"a", "b", "c", "d", "e"}, members);
  EXPECT_EQ(idle, (std::vector<WorkerId>{"c", "d", "e"}));
}

TEST(MembersTest, QuoteReasons_QuotesTheFirstThree) {
  EXPECT_EQ(QuoteReasons({}), "");
  EXPECT_EQ(QuoteReasons(MakeMembers()),
            " (b: lease ran out; c: no such file; d: refused)");
  Members members = MakeMembers();
  members["e"] = Departed(Departure::kLost, "x");
  EXPECT_EQ(QuoteReasons(members),
            " (b: lease ran out; c: no such file; d: refused; ...)");
}

TEST(MembersTest, Departed_LongReason_IsCutBetweenCharacters) {
  const std::string reason =
      std::string(kMaxReasonBytes - 1, 'x') + "\u00e4" + "tail";
  EXPECT_EQ(Departed(Departure::kLost, reason).reason,
            std::string(kMaxReasonBytes - 1, 'x'));
}

}  // namespace
}  // namespace koinon::coordinator
