#include "dht/transport/simulated.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/digest.h"
#include "base/status_matchers.h"
#include "gtest/gtest.h"

namespace koinon::dht {
namespace {

Contact ContactOf(int i) {
  return {Sha256Of(absl::StrCat("node ", i)), absl::StrCat("n", i, ":1"), ""};
}

v1::AskRequest PingQuestion() {
  v1::AskRequest question;
  question.mutable_ping();
  return question;
}

SimulatedNetwork::Answer Says(std::string rejection) {
  return [rejection](const Contact&, const v1::AskRequest&) {
    v1::AskReply reply;
    reply.set_rejection(rejection);
    return reply;
  };
}

// Asks, and runs the network until the answer has come.
absl::StatusOr<v1::AskReply> AskNow(
    SimulatedNetwork* network, SimulatedNetwork::Host* from, const Contact& to,
    absl::Duration deadline = absl::Seconds(1)) {
  absl::StatusOr<v1::AskReply> answer = absl::UnknownError("never answered");
  bool answered = false;
  from->transport()->Ask(to, PingQuestion(), deadline,
                         [&](absl::StatusOr<v1::AskReply> reply) {
                           EXPECT_FALSE(answered) << "twice";
                           answered = true;
                           answer = std::move(reply);
                         });
  EXPECT_FALSE(answered) << "inside Ask";
  network->RunUntilTrue([&] { return answered; }, absl::Hours(1));
  network->RunFor(deadline);
  return answer;
}

TEST(SimulatedNetwork, Ask_IsAnsweredAndNamesBothSides) {
  SimulatedNetwork network({});
  auto* a = network.AddHost(ContactOf(1));
  auto* b = network.AddHost(ContactOf(2));
  std::vector<Contact> askers;
  b->Serve([&](const Contact& from, const v1::AskRequest& question) {
    askers.push_back(from);
    EXPECT_TRUE(question.has_ping());
    EXPECT_EQ(question.sender().address(), "n1:1");
    return v1::AskReply();
  });
  ASSERT_OK_AND_ASSIGN(const v1::AskReply reply,
                       AskNow(&network, a, b->contact()));
  EXPECT_EQ(reply.sender().node_id(), b->contact().id.ToBytes());
  ASSERT_EQ(askers.size(), 1u);
  EXPECT_EQ(askers[0], a->contact());
  EXPECT_EQ(network.messages(), 2);
}

// Whole seconds wait elsewhere than other times.
TEST(SimulatedNetwork, After_AnyDelays_InTheOrderOfTheirTimesAndThenOfMaking) {
  SimulatedNetwork network({});
  std::vector<std::pair<absl::Time, int>> made;
  std::vector<std::pair<absl::Time, int>> ran;
  const auto make = [&](absl::Duration delay) {
    const int i = static_cast<int>(made.size());
    made.push_back({network.Now() + delay, i});
    network.After(delay, [&, i] { ran.push_back({network.Now(), i}); });
  };
  for (int i = 0; i < 2'000; ++i) {
    const int some = i * 5 % 7;
    make(i % 3 == 0 ? absl::Seconds(some) : absl::Milliseconds(250 * some));
    if (i % 10 == 0) network.RunFor(absl::Milliseconds(250));
  }
  network.RunFor(absl::Seconds(10));
  std::stable_sort(made.begin(), made.end(), [](const auto& a, const auto& b) {
    return a.first < b.first;
  });
  EXPECT_EQ(ran, made);
}

TEST(SimulatedNetwork, Ask_TakesAtLeastTwoFixedDelays) {
  SimulatedNetwork network({.mean_delay = absl::Milliseconds(1),
                            .min_delay = absl::Milliseconds(30)});
  auto* a = network.AddHost(ContactOf(1));
  auto* b = network.AddHost(ContactOf(2));
  b->Serve(Says(""));
  const absl::Time start = network.Now();
  bool answered = false;
  a->transport()->Ask(b->contact(), PingQuestion(), absl::Seconds(1),
                      [&](auto) { answered = true; });
  ASSERT_TRUE(network.RunUntilTrue([&] { return answered; }, absl::Seconds(1)));
  EXPECT_GE(network.Now() - start, absl::Milliseconds(60));
}

TEST(SimulatedNetwork, Ask_NobodyThere_EndsAtTheDeadline) {
  SimulatedNetwork network({});
  auto* a = network.AddHost(ContactOf(1));
  const absl::Time start = network.Now();
  bool ended = false;
  a->transport()->Ask(
      ContactOf(9), PingQuestion(), absl::Milliseconds(700),
      [&](absl::StatusOr<v1::AskReply> reply) {
        EXPECT_THAT(reply, StatusIs(absl::StatusCode::kDeadlineExceeded));
        ended = true;
      });
  network.RunUntilTrue([&] { return ended; }, absl::Hours(1));
  EXPECT_EQ(network.Now() - start, absl::Milliseconds(700));
}

TEST(SimulatedNetwork, Ask_AnotherNodeAtTheAddress_IsUnauthenticated) {
  SimulatedNetwork network({});
  auto* a = network.AddHost(ContactOf(1));
  auto* b = network.AddHost(ContactOf(2));
  b->Serve(Says(""));
  Contact wrong = b->contact();
  wrong.id = ContactOf(3).id;
  EXPECT_THAT(AskNow(&network, a, wrong),
              StatusIs(absl::StatusCode::kUnauthenticated,
                       testing::HasSubstr(ContactOf(3).id.ToShortHex())));
  wrong.id = Key();  // whoever is there
  EXPECT_OK(AskNow(&network, a, wrong));
}

TEST(SimulatedNetwork, Answer_AnErrorIsSentBackAndCancelledIsSilence) {
  SimulatedNetwork network({});
  auto* a = network.AddHost(ContactOf(1));
  auto* b = network.AddHost(ContactOf(2));
  absl::Status answer = absl::ResourceExhaustedError("busy");
  b->Serve([&](const auto&, const auto&) { return answer; });
  EXPECT_THAT(AskNow(&network, a, b->contact()),
              StatusIs(absl::StatusCode::kResourceExhausted));
  answer = absl::CancelledError();
  EXPECT_THAT(AskNow(&network, a, b->contact()),
              StatusIs(absl::StatusCode::kDeadlineExceeded));
}

TEST(SimulatedNetwork, Crash_EndsAnswersAndTimersForEver) {
  SimulatedNetwork network({});
  auto* a = network.AddHost(ContactOf(1));
  auto* b = network.AddHost(ContactOf(2));
  b->Serve(Says(""));
  bool ran = false;
  b->loop()->After(absl::Seconds(1), [&] { ran = true; });
  b->Crash();
  EXPECT_TRUE(b->crashed());
  EXPECT_THAT(AskNow(&network, a, b->contact()),
              StatusIs(absl::StatusCode::kDeadlineExceeded));
  network.RunFor(absl::Seconds(2));
  EXPECT_FALSE(ran);

  // Its address is free again.
  auto* again = network.AddHost(b->contact());
  again->Serve(Says("again"));
  ASSERT_OK_AND_ASSIGN(const v1::AskReply reply,
                       AskNow(&network, a, b->contact()));
  EXPECT_EQ(reply.rejection(), "again");
}

TEST(SimulatedNetwork, Crash_OfTheAsker_ItsQuestionNeverEnds) {
  SimulatedNetwork network({});
  auto* a = network.AddHost(ContactOf(1));
  auto* b = network.AddHost(ContactOf(2));
  b->Serve(Says(""));
  a->transport()->Ask(b->contact(), PingQuestion(), absl::Seconds(1),
                      [](auto) { FAIL() << "a crashed host heard something"; });
  a->Crash();
  network.RunFor(absl::Seconds(2));
}

TEST(SimulatedNetwork, SetGroup_SplitsAndHeals) {
  SimulatedNetwork network({});
  auto* a = network.AddHost(ContactOf(1));
  auto* b = network.AddHost(ContactOf(2));
  b->Serve(Says(""));
  network.SetGroup(b, 1);
  EXPECT_THAT(AskNow(&network, a, b->contact()),
              StatusIs(absl::StatusCode::kDeadlineExceeded));
  network.SetGroup(b, 0);
  EXPECT_OK(AskNow(&network, a, b->contact()));
}

TEST(SimulatedNetwork, Loss_LosesThatShareOfMessages) {
  SimulatedNetwork network({.seed = 5, .loss = 0.25});
  auto* a = network.AddHost(ContactOf(1));
  auto* b = network.AddHost(ContactOf(2));
  b->Serve(Says(""));
  int answered = 0, ended = 0;
  constexpr int kQuestions = 4'000;
  for (int i = 0; i < kQuestions; ++i) {
    a->transport()->Ask(b->contact(), PingQuestion(), absl::Seconds(5),
                        [&](absl::StatusOr<v1::AskReply> reply) {
                          ++ended;
                          answered += reply.ok();
                        });
  }
  network.RunFor(absl::Seconds(6));
  EXPECT_EQ(ended, kQuestions);
  // Both ways must go well: 0.75^2, within 4 standard deviations (0.8 %).
  EXPECT_NEAR(answered / double{kQuestions}, 0.5625, 0.032);
}

TEST(SimulatedNetwork, Messages_OvertakeEachOther) {
  SimulatedNetwork network({.seed = 6});
  auto* a = network.AddHost(ContactOf(1));
  auto* b = network.AddHost(ContactOf(2));
  b->Serve(Says(""));
  std::vector<int> order;
  for (int i = 0; i < 20; ++i) {
    a->transport()->Ask(b->contact(), PingQuestion(), absl::Seconds(5),
                        [&order, i](auto) { order.push_back(i); });
  }
  network.RunFor(absl::Seconds(6));
  ASSERT_EQ(order.size(), 20u);
  EXPECT_FALSE(std::is_sorted(order.begin(), order.end()));
}

TEST(SimulatedNetwork, Timers_RunInOrderAndSoonMeansNotNow) {
  SimulatedNetwork network({});
  auto* a = network.AddHost(ContactOf(1));
  std::vector<int> order;
  a->loop()->After(absl::Seconds(2), [&] { order.push_back(3); });
  a->loop()->After(absl::ZeroDuration(), [&] {
    order.push_back(1);
    a->loop()->After(absl::ZeroDuration(), [&] { order.push_back(2); });
  });
  EXPECT_TRUE(order.empty());
  network.RunFor(absl::Seconds(3));
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
}

// A hundred hosts that ask each other at random for a while.
std::string DigestOfABusyNetwork(uint64_t seed) {
  SimulatedNetwork network({.seed = seed, .loss = 0.05});
  std::vector<SimulatedNetwork::Host*> hosts;
  for (int i = 0; i < 100; ++i) {
    hosts.push_back(network.AddHost(ContactOf(i)));
    hosts.back()->Serve(Says(""));
  }
  for (int i = 0; i < 1'000; ++i) {
    network.After(absl::Milliseconds(i), [&hosts, i] {
      hosts[i % 100]->transport()->Ask(hosts[(i * 7 + 1) % 100]->contact(),
                                       PingQuestion(), absl::Seconds(1),
                                       [](auto) {});
      if (i == 500) hosts[3]->Crash();
    });
  }
  network.RunFor(absl::Seconds(5));
  return network.log_digest();
}

TEST(SimulatedNetwork, LogDigest_FollowsTheSeed) {
  const std::string first = DigestOfABusyNetwork(1);
  EXPECT_EQ(first, DigestOfABusyNetwork(1));
  EXPECT_NE(first, DigestOfABusyNetwork(2));
}

}  // namespace
}  // namespace koinon::dht
