// What a node makes of where others are said to be, and of those that say no.

#include <functional>
#include <memory>
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
#include "dht/store/record_store.h"
#include "dht/transport/simulated.h"
#include "gtest/gtest.h"
#include "proto/dht.pb.h"

namespace koinon::dht {
namespace {

// One node, and others whose answers the test says.
class NodeAddressesTest : public testing::Test {
 protected:
  using Answer = SimulatedNetwork::Answer;

  NodeAddressesTest()
      : network_({.seed = 5,
                  .mean_delay = absl::Milliseconds(2),
                  .min_delay = absl::Milliseconds(1)}) {
    // Pings and refreshes of its own would hide what questions come to.
    options_.maintenance = absl::Hours(1);
  }

  // In the order of their distance to Target().
  static Contact Far(uint8_t distance, const std::string& address) {
    std::string id = Target().ToBytes();
    id[0] = static_cast<char>(id[0] ^ distance);
    return {*Key::FromBytes(id), address, ""};
  }
  static Key Target() { return Sha256Of("target"); }

  void Start() {
    const Contact self = Far(0xff, "self:1");
    auto store = RecordStore::Open(RealEnv(), "", {}, {}, network_.Now());
    ASSERT_OK(store);
    store_ = *std::move(store);
    SimulatedNetwork::Host* host = network_.AddHost(self);
    options_.self = self;
    options_.seed = 1;
    node_ = std::make_unique<Node>(options_, host->loop(), host->transport(),
                                   store_.get());
  }
  void Join(const std::vector<std::string>& addresses) {
    node_->Join(addresses, [](const absl::Status&) {});
    network_.RunFor(absl::Seconds(20));
  }
  SimulatedNetwork::Host* Serve(const Contact& contact, Answer answer) {
    SimulatedNetwork::Host* host = network_.AddHost(contact);
    host->Serve(std::move(answer));
    return host;
  }
  // One that names these, whoever asks.
  SimulatedNetwork::Host* ServeNames(const Contact& contact,
                                     const std::vector<Contact>& names) {
    return Serve(contact, [names](const Contact&, const auto& question) {
      v1::AskReply reply;
      if (question.has_ping()) return reply;
      for (const Contact& name : names) {
        *reply.add_closer() = ContactToProto(name);
      }
      return reply;
    });
  }
  void AskedBy(const Contact& contact) {
    v1::AskRequest question;
    question.mutable_ping();
    EXPECT_OK(node_->Answer(contact, question));
    network_.RunFor(absl::Seconds(5));
  }
  absl::StatusOr<Node::Closest> FindClosest() {
    absl::StatusOr<Node::Closest> result = absl::InternalError("never done");
    node_->FindClosest(Target(), [&](auto closest) { result = closest; });
    network_.RunFor(absl::Seconds(20));
    return result;
  }
  std::string AddressOf(const Contact& contact) const {
    return node_->table().AddressOf(contact.id);
  }

  SimulatedNetwork network_;
  Node::Options options_;
  std::unique_ptr<RecordStore> store_;
  std::unique_ptr<Node> node_;
};

// Where nobody is, and where somebody else is.
class WrongAddressTest : public NodeAddressesTest,
                         public testing::WithParamInterface<const char*> {};

TEST_P(WrongAddressTest, Walk_NodeNamedThereFirst_IsFound) {
  const Contact wanted = Far(1, "wanted:1");
  const Contact honest = Far(3, "honest:1");
  Contact misplaced = wanted;
  misplaced.address = GetParam();
  ServeNames(wanted, {});
  ServeNames(honest, {wanted});
  ServeNames(Far(4, "liar:1"), {misplaced, honest});
  Start();
  Join({"liar:1"});
  const auto closest = FindClosest();
  ASSERT_OK(closest);
  ASSERT_FALSE(closest->nodes.empty());
  EXPECT_EQ(closest->nodes[0], wanted);
  EXPECT_EQ(AddressOf(wanted), "wanted:1");
}
INSTANTIATE_TEST_SUITE_P(Addresses, WrongAddressTest,
                         testing::Values("nowhere:1", "honest:1"));

TEST_F(NodeAddressesTest, KnownNode_NamedAtWrongAddresses_StaysInTheTable) {
  options_.k = 2;
  const Contact liar = Far(1, "liar:1");
  const Contact dead = Far(2, "dead:1");
  const Contact known = Far(3, "known:1");
  Contact misplaced = known;
  misplaced.address = "nowhere:1";
  bool lies = false;
  Serve(liar, [&](const Contact&, const auto& question) {
    v1::AskReply reply;
    if (lies && !question.has_ping()) {
      *reply.add_closer() = ContactToProto(misplaced);
    }
    return reply;
  });
  SimulatedNetwork::Host* dying = ServeNames(dead, {});
  ServeNames(known, {});
  Start();
  Join({"liar:1", "dead:1", "known:1"});
  ASSERT_EQ(node_->table().size(), 3u);
  dying->Crash();
  lies = true;
  // In the dead one's place the known one is asked.
  for (int i = 0; i < 4; ++i) {
    const auto closest = FindClosest();
    ASSERT_OK(closest);
    ASSERT_EQ(closest->nodes.size(), 2u);
    EXPECT_EQ(closest->nodes[1], known);
  }
  EXPECT_FALSE(node_->table().Contains(dead.id));
  EXPECT_EQ(AddressOf(known), "known:1");
}

TEST_F(NodeAddressesTest, NodeThatHadTooMuchToDo_IsCheckedWhenItAsksAgain) {
  const Contact busy = Far(1, "busy:1");
  bool is_busy = true;
  Serve(busy, [&](const Contact&, const auto&) -> absl::StatusOr<v1::AskReply> {
    if (is_busy) return absl::ResourceExhaustedError("too much to do");
    return v1::AskReply();
  });
  Start();
  AskedBy(busy);
  EXPECT_FALSE(node_->table().Contains(busy.id));
  is_busy = false;
  AskedBy(busy);
  EXPECT_TRUE(node_->table().Contains(busy.id));
  // Whom one knows one does not forget for it.
  is_busy = true;
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(FindClosest().ok());
  EXPECT_TRUE(node_->table().Contains(busy.id));
}

TEST_F(NodeAddressesTest, NodeThatStartedAgainElsewhere_IsKnownThereAtOnce) {
  const Contact before = Far(1, "before:1");
  SimulatedNetwork::Host* host = ServeNames(before, {});
  Start();
  AskedBy(before);
  ASSERT_EQ(AddressOf(before), "before:1");
  host->Crash();
  Contact after = before;
  after.address = "after:1";
  // Where it does not answer it is not.
  AskedBy(after);
  EXPECT_EQ(AddressOf(before), "before:1");
  ServeNames(after, {});
  AskedBy(after);
  EXPECT_EQ(AddressOf(before), "after:1");
}

TEST_F(NodeAddressesTest, Provide_WhereThereAreEnough_IsNotRepeatedAtOnce) {
  options_.maintenance = absl::Seconds(1);
  int announced = 0;
  std::vector<std::string> addresses;
  for (uint8_t i = 1; i <= 3; ++i) {
    addresses.push_back(absl::StrCat("n", i, ":1"));
    Serve(Far(i, addresses.back()),
          [&announced](const Contact&, const auto& question) {
            v1::AskReply reply;
            if (question.has_add_provider()) {
              ++announced;
              reply.set_rejection("quota");
            }
            return reply;
          });
  }
  Start();
  Join(addresses);
  node_->Provide(Target());
  network_.RunFor(absl::Minutes(3));
  EXPECT_EQ(announced, 3);
  network_.RunFor(absl::Minutes(3));
  EXPECT_GE(announced, 6);
}

}  // namespace
}  // namespace koinon::dht
