// What a Get does about holders that keep silent, and a node about all others.

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/digest.h"
#include "base/env.h"
#include "base/status_matchers.h"
#include "dht/key.h"
#include "dht/node.h"
#include "dht/records/signed.h"
#include "dht/records/testing_signers.h"
#include "dht/store/record_store.h"
#include "dht/transport/simulated.h"
#include "dht/transport/transport.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/dht.pb.h"

namespace koinon::dht {
namespace {

using ::testing::HasSubstr;

constexpr uint8_t kOthers = 60;

// Answers to questions for records come late from some, as from machines that
// are busy with other connections.
class LateTransport final : public Transport {
 public:
  LateTransport(Transport* inner, Loop* loop) : inner_(inner), loop_(loop) {}

  void Delay(const Key& id, absl::Duration delay) { delays_[id] = delay; }
  // Whether the end of every question is seen so long after it was due.
  void HoldUp(absl::Duration delay) { held_up_ = delay; }
  void Ask(const Contact& to, v1::AskRequest question, absl::Duration deadline,
           Done done) override {
    if (held_up_ > absl::ZeroDuration()) {
      return loop_->After(deadline + held_up_, [done = std::move(done)] {
        done(absl::DeadlineExceededError("no answer in time"));
      });
    }
    const auto late = delays_.find(to.id);
    if (!question.has_get_record() || late == delays_.end()) {
      inner_->Ask(to, std::move(question), deadline, std::move(done));
    } else if (late->second >= deadline) {
      loop_->After(deadline, [done = std::move(done)] {
        done(absl::DeadlineExceededError("no answer in time"));
      });
    } else {
      inner_->Ask(to, std::move(question), deadline,
                  [loop = loop_, delay = late->second,
                   done = std::move(done)](absl::StatusOr<v1::AskReply> reply) {
                    loop->After(delay, [done, reply] { done(reply); });
                  });
    }
  }

 private:
  Transport* const inner_;
  Loop* const loop_;
  std::map<Key, absl::Duration> delays_;
  absl::Duration held_up_ = absl::ZeroDuration();
};

// One node that knows all others; who of them has the record is the test's.
class NodeGetTest : public testing::Test {
 protected:
  NodeGetTest()
      : network_({.seed = 11,
                  .mean_delay = absl::Milliseconds(2),
                  .min_delay = absl::Milliseconds(1)}) {}

  void SetUp() override {
    const Contact self = At(0xff);
    auto store = RecordStore::Open(RealEnv(), "", {}, {}, network_.Now());
    ASSERT_OK(store);
    store_ = *std::move(store);
    self_ = network_.AddHost(self);
    late_ = std::make_unique<LateTransport>(self_->transport(), self_->loop());
    options_.self = self;
    options_.seed = 1;
    node_ = std::make_unique<Node>(options_, self_->loop(), late_.get(),
                                   store_.get());
    std::vector<Contact> all;
    for (uint8_t i = 1; i <= kOthers; ++i) all.push_back(At(i));
    for (uint8_t i = 1; i <= kOthers; ++i) {
      hosts_[i] = network_.AddHost(At(i));
      hosts_[i]->Serve([this, i, all](const Contact&, const auto& question) {
        return Answer(i, all, question);
      });
    }
    node_->Join({At(1).address}, [](const absl::Status&) {});
    network_.RunFor(absl::Minutes(1));
    ASSERT_EQ(node_->table().size(), size_t{kOthers});
  }

  // In the order of their distance to the key.
  static Contact At(uint8_t distance) {
    std::string id = Wanted().ToBytes();
    id[0] = static_cast<char>(id[0] ^ distance);
    return {*Key::FromBytes(id), absl::StrCat("n", distance, ":1"), ""};
  }
  static Key Wanted() { return ImmutableKey("wanted"); }

  absl::StatusOr<v1::AskReply> Answer(uint8_t i,
                                      const std::vector<Contact>& all,
                                      const v1::AskRequest& question) {
    v1::AskReply reply;
    if (question.has_ping()) return reply;
    if (question.has_get_record()) {
      if (silent_once_.erase(i) > 0) return absl::CancelledError();
      if (holders_.contains(i)) {
        *reply.mutable_record() = ImmutableRecord("wanted");
      }
    }
    for (const Contact& contact : all) {
      *reply.add_closer() = ContactToProto(contact);
    }
    return reply;
  }
  // Hears nothing of anybody for so long that all have left its table.
  void CutOff() {
    network_.SetGroup(self_, 1);
    network_.RunFor(absl::Minutes(15));
    ASSERT_EQ(node_->table().size(), 0u);
    network_.SetGroup(self_, 0);
  }
  absl::StatusOr<Node::GetResult> Get(const Key& key = Wanted()) {
    absl::StatusOr<Node::GetResult> result = absl::InternalError("never done");
    node_->Get(key, {}, [&](auto got) {
      result = std::move(got);
      nodes_then_ = node_->table().size();
    });
    network_.RunFor(absl::Seconds(30));
    return result;
  }

  SimulatedNetwork network_;
  Node::Options options_;
  SimulatedNetwork::Host* self_ = nullptr;
  std::map<uint8_t, SimulatedNetwork::Host*> hosts_;
  std::set<uint8_t> holders_;
  std::set<uint8_t> silent_once_;
  size_t nodes_then_ = 0;  // in the table, when Get was done
  std::unique_ptr<RecordStore> store_;
  std::unique_ptr<LateTransport> late_;
  std::unique_ptr<Node> node_;
};

TEST_F(NodeGetTest, Get_HalfDeadAndTheOthersSilentOnce_IsFound) {
  for (uint8_t i = 1; i <= 20; ++i) {
    if (i % 2 == 0) {
      hosts_[i]->Crash();
    } else {
      holders_.insert(i);
      silent_once_.insert(i);
    }
  }
  ASSERT_OK_AND_ASSIGN(const Node::GetResult got, Get());
  EXPECT_EQ(got.opened.value, "wanted");
  EXPECT_TRUE(holders_.contains(
      static_cast<uint8_t>(got.from.id.bytes()[0] ^ Wanted().bytes()[0])));
  EXPECT_EQ(node_->status().counters.at("gets_asked_again"), 1);
}

TEST_F(NodeGetTest, Get_AllHoldersSlowerThanAnybodyIsWaitedFor_IsFound) {
  for (uint8_t i = 1; i <= 20; ++i) {
    holders_.insert(i);
    late_->Delay(At(i).id, absl::Seconds(2));
  }
  ASSERT_OK_AND_ASSIGN(const Node::GetResult got, Get());
  EXPECT_EQ(got.opened.value, "wanted");
}

TEST_F(NodeGetTest, Get_WhoSentABadRecord_IsNotAskedAgain) {
  int forged = 0;
  for (uint8_t i = 1; i <= 20; ++i) {
    hosts_[i]->Serve([&forged](const auto&, const v1::AskRequest& question)
                         -> absl::StatusOr<v1::AskReply> {
      v1::AskReply reply;
      if (question.has_get_record()) {
        ++forged;
        *reply.mutable_record() = ImmutableRecord("forged");
      }
      return reply;
    });
  }
  EXPECT_THAT(Get(), StatusIs(absl::StatusCode::kNotFound,
                              HasSubstr("; refused: wrong_key by 20, the last: "
                                        "stands under ")));
  EXPECT_EQ(forged, 20);
  EXPECT_EQ(nodes_then_, size_t{kOthers} - 20);
}

class NodeGetPinnedTest : public NodeGetTest {
 protected:
  NodeGetPinnedTest() {
    options_.trust.federation = "north";
    options_.trust.pinned = {
        PlainNode('p', "north", "server").key.public_key()};
  }
};

// They were given it when its signer still counted, by their own clocks.
TEST_F(NodeGetPinnedTest, Get_SignerDoesNotCount_SaysSoAndKeepsTheHolders) {
  v1::MutableRecord head;
  head.set_name("head/digits");
  head.set_expires_ms(absl::ToUnixMillis(network_.Now() + absl::Hours(1)));
  ASSERT_OK_AND_ASSIGN(const v1::Record record,
                       SignRecord(head, PlainNode('q', "north", "server")));
  for (const auto& [i, host] : hosts_) {
    host->Serve([&record](const auto&, const v1::AskRequest& question) {
      v1::AskReply reply;
      if (question.has_get_record()) *reply.mutable_record() = record;
      return reply;
    });
  }
  EXPECT_THAT(Get(MutableKey("north", "server", "head/digits")),
              StatusIs(absl::StatusCode::kNotFound,
                       AllOf(HasSubstr("refused: untrusted_signer by "),
                             HasSubstr("which is not pinned"))));
  EXPECT_EQ(nodes_then_, size_t{kOthers});
}

TEST_F(NodeGetTest, Get_NotThereAndNobodySilent_EndsWithoutWaiting) {
  EXPECT_THAT(Get(), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_FALSE(node_->status().counters.contains("gets_asked_again"));
}

TEST_F(NodeGetTest, Get_AllHaveLeftTheTable_AsksThoseThatWereThere) {
  for (uint8_t i = 1; i <= 20; ++i) holders_.insert(i);
  CutOff();
  absl::StatusOr<Node::GetResult> got = absl::InternalError("never done");
  node_->Get(Wanted(), {}, [&](auto result) { got = std::move(result); });
  network_.RunFor(absl::Milliseconds(100));
  ASSERT_OK(got);
  EXPECT_EQ(got->opened.value, "wanted");
}

TEST_F(NodeGetTest, Table_AllHaveLeftItAndOneLives_HasItSoon) {
  for (const auto& [i, host] : hosts_) {
    if (i != 37) host->Crash();
  }
  CutOff();
  network_.RunFor(absl::Seconds(20));
  EXPECT_TRUE(node_->table().Contains(At(37).id));
}

TEST_F(NodeGetTest, Table_SilenceOfAllWhileThisNodeIsHeldUp_KeepsThem) {
  late_->HoldUp(absl::Seconds(1));
  for (int i = 0; i < 3; ++i) {
    EXPECT_THAT(Get(), StatusIs(absl::StatusCode::kUnavailable));
  }
  EXPECT_EQ(node_->table().size(), size_t{kOthers});
  for (uint8_t i = 1; i <= 20; ++i) holders_.insert(i);
  late_->HoldUp(absl::ZeroDuration());
  EXPECT_OK(Get());
}

// Its silence is as little its own as that of those in the table.
TEST_F(NodeGetTest, Table_NewNodeHeardOfWhileThisNodeIsHeldUp_EntersSoon) {
  const Contact fresh = At(kOthers + 1);
  network_.AddHost(fresh)->Serve(
      [](const auto&, const auto&) { return v1::AskReply(); });
  late_->HoldUp(absl::Seconds(1));
  v1::AskRequest ping;
  ping.mutable_ping();
  ASSERT_OK(node_->Answer(fresh, ping));
  network_.RunFor(absl::Seconds(10));
  late_->HoldUp(absl::ZeroDuration());
  EXPECT_FALSE(node_->table().Contains(fresh.id));
  network_.RunFor(absl::Minutes(2));
  EXPECT_TRUE(node_->table().Contains(fresh.id));
}

TEST_F(NodeGetTest, Get_MostHaveLeftLongAgo_DoesNotAskThemAgain) {
  for (const auto& [i, host] : hosts_) {
    if (i <= 50) {
      host->Crash();
    } else {
      host->Serve([](const auto&, const auto&) { return v1::AskReply(); });
    }
  }
  network_.RunFor(absl::Minutes(20));
  ASSERT_EQ(node_->table().size(), 10u);
  EXPECT_THAT(Get(), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_EQ(node_->status().counters.at("gets_asked_again"), 1);
  network_.RunFor(absl::Minutes(80));
  EXPECT_THAT(Get(), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_EQ(node_->status().counters.at("gets_asked_again"), 1);
}

class NodeGetInTwoSecondsTest : public NodeGetTest {
 protected:
  NodeGetInTwoSecondsTest() { options_.lookup_deadline = absl::Seconds(2); }
};

TEST_F(NodeGetInTwoSecondsTest, Get_HoldersSlowerThanTheDeadline_EndsByIt) {
  for (uint8_t i = 1; i <= 20; ++i) late_->Delay(At(i).id, absl::Seconds(20));
  const absl::Time started = network_.Now();
  absl::Time ended = absl::InfiniteFuture();
  node_->Get(Wanted(), {}, [&](const auto& got) {
    EXPECT_THAT(got, StatusIs(absl::StatusCode::kNotFound));
    ended = network_.Now();
  });
  network_.RunFor(absl::Seconds(30));
  EXPECT_EQ(node_->status().counters.at("gets_asked_again"), 1);
  // Two walks, each with its deadline.
  EXPECT_LE(ended - started, 2 * options_.lookup_deadline);
}

TEST_F(NodeGetTest, Get_AllOthersDead_IsUnavailable) {
  for (const auto& [i, host] : hosts_) host->Crash();
  EXPECT_THAT(Get(), StatusIs(absl::StatusCode::kUnavailable));
}

}  // namespace
}  // namespace koinon::dht
