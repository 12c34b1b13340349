// Who serves what, where those that are asked say what they like.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/digest.h"
#include "base/env.h"
#include "base/status_matchers.h"
#include "dht/key.h"
#include "dht/node.h"
#include "dht/store/record_store.h"
#include "dht/transport/simulated.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/dht.pb.h"

namespace koinon::dht {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr uint8_t kOthers = 60;
constexpr size_t kWanted = 20;

// One node that knows all others; whom each of them names is the test's.
class NodeProvidersTest : public testing::Test {
 protected:
  NodeProvidersTest()
      : network_({.seed = 13,
                  .mean_delay = absl::Milliseconds(2),
                  .min_delay = absl::Milliseconds(1)}) {}

  void SetUp() override {
    const Contact self = At(0xff);
    auto store = RecordStore::Open(RealEnv(), "", {}, {}, network_.Now());
    ASSERT_OK(store);
    store_ = *std::move(store);
    auto* const host = network_.AddHost(self);
    Node::Options options;
    options.self = self;
    options.seed = 1;
    node_ = std::make_unique<Node>(options, host->loop(), host->transport(),
                                   store_.get());
    for (uint8_t i = 1; i <= kOthers; ++i) {
      hosts_[i] = network_.AddHost(At(i));
      hosts_[i]->Serve([this, i](const Contact&, const auto& question) {
        return Answer(i, question);
      });
    }
    node_->Join({At(1).address}, [](const absl::Status&) {});
    network_.RunFor(absl::Minutes(1));
    ASSERT_EQ(node_->table().size(), size_t{kOthers});
  }

  static Key Content() { return Sha256Of("a model"); }
  // In the order of their distance to the content.
  static Contact At(uint8_t distance) {
    std::string id = Content().ToBytes();
    id[0] = static_cast<char>(id[0] ^ distance);
    return {*Key::FromBytes(id), absl::StrCat("n", distance, ":1"), ""};
  }
  static std::vector<Contact> Invented(const std::string& by) {
    std::vector<Contact> invented;
    for (size_t i = 0; i < kWanted; ++i) {
      const std::string name = absl::StrCat(by, "-", i);
      invented.push_back({Sha256Of(name), absl::StrCat(name, ":1"), ""});
    }
    return invented;
  }

  absl::StatusOr<v1::AskReply> Answer(uint8_t i,
                                      const v1::AskRequest& question) {
    v1::AskReply reply;
    if (question.has_ping()) return reply;
    if (question.has_get_providers()) {
      ++asked_[i];
      for (const Contact& contact : names_[i]) {
        *reply.add_providers()->mutable_contact() = ContactToProto(contact);
      }
    }
    for (uint8_t other = 1; other <= kOthers; ++other) {
      *reply.add_closer() = ContactToProto(At(other));
    }
    return reply;
  }

  // The ids of those that are found, in their order.
  absl::StatusOr<std::vector<Key>> Find(size_t count = kWanted) {
    absl::StatusOr<std::vector<Contact>> found =
        absl::InternalError("never done");
    node_->FindProviders(Content(), count,
                         [&](auto result) { found = std::move(result); });
    network_.RunFor(absl::Seconds(30));
    if (!found.ok()) return found.status();
    std::vector<Key> ids;
    for (const Contact& contact : *found) ids.push_back(contact.id);
    return ids;
  }

  SimulatedNetwork network_;
  std::map<uint8_t, SimulatedNetwork::Host*> hosts_;
  std::map<uint8_t, std::vector<Contact>> names_;
  std::map<uint8_t, int> asked_;
  std::unique_ptr<RecordStore> store_;
  std::unique_ptr<Node> node_;
};

TEST_F(NodeProvidersTest, Find_ThoseNearestNameAsManyAsAreWanted_OthersToo) {
  const Contact server = At(40);
  for (uint8_t i = 1; i <= 10; ++i) names_[i] = Invented("same");
  for (uint8_t i = 11; i <= 20; ++i) names_[i] = {server};
  ASSERT_OK_AND_ASSIGN(const std::vector<Key> found, Find());
  EXPECT_THAT(found, SizeIs(kWanted));
  EXPECT_THAT(found, Contains(server.id));
}

TEST_F(NodeProvidersTest, Find_AllButOneNameOthersEach_EachHasOnePlace) {
  const Contact server = At(40);
  for (uint8_t i = 1; i <= 19; ++i) names_[i] = Invented(absl::StrCat(i));
  names_[20] = {server};
  ASSERT_OK_AND_ASSIGN(const std::vector<Key> found, Find());
  EXPECT_THAT(found, SizeIs(kWanted));
  EXPECT_THAT(found, Contains(server.id));
}

// Each of the honest ones has a place for another of those that they name.
TEST_F(NodeProvidersTest, Find_HalfNameOthersEach_AllThatTheOtherHalfNames) {
  std::vector<Contact> servers;
  for (uint8_t i = 31; i <= 40; ++i) servers.push_back(At(i));
  for (uint8_t i = 1; i <= 20; ++i) {
    names_[i] = i % 2 == 0 ? servers : Invented(absl::StrCat(i));
  }
  ASSERT_OK_AND_ASSIGN(const std::vector<Key> found, Find());
  for (const Contact& server : servers) {
    EXPECT_THAT(found, Contains(server.id));
  }
}

TEST_F(NodeProvidersTest, Find_FewerThanWanted_AllInTheOrderOfWhoNamesThem) {
  for (uint8_t i = 1; i <= 20; ++i) names_[i] = {At(30), At(31), At(0xff)};
  EXPECT_THAT(Find(), IsOkAndHolds(ElementsAre(At(30).id, At(31).id)));
  EXPECT_THAT(Find(1), IsOkAndHolds(ElementsAre(At(30).id)));
  EXPECT_THAT(Find(0), IsOkAndHolds(IsEmpty()));
}

TEST_F(NodeProvidersTest, Find_NearestKnowNobody_OthersAreAskedOnce) {
  names_[30] = {At(50)};
  EXPECT_THAT(Find(), IsOkAndHolds(ElementsAre(At(50).id)));
  for (const auto& [node, times] : asked_) EXPECT_EQ(times, 1) << node;
}

TEST_F(NodeProvidersTest, Find_EnoughAnnouncedHere_NobodyIsAsked) {
  for (uint8_t i = 1; i <= kWanted; ++i) {
    ASSERT_OK(store_->AddProvider(Content(), At(i), network_.Now()));
  }
  EXPECT_THAT(Find(), IsOkAndHolds(SizeIs(kWanted)));
  EXPECT_THAT(asked_, IsEmpty());
}

TEST_F(NodeProvidersTest, Find_NobodyServesIt_IsEmpty) {
  EXPECT_THAT(Find(), IsOkAndHolds(IsEmpty()));
}

TEST_F(NodeProvidersTest, Find_NobodyAnswers_IsUnavailable) {
  for (const auto& [i, host] : hosts_) host->Crash();
  EXPECT_THAT(Find(), StatusIs(absl::StatusCode::kUnavailable,
                               HasSubstr("no node of the DHT answered")));
  ASSERT_OK(store_->AddProvider(Content(), At(1), network_.Now()));
  EXPECT_THAT(Find(), IsOkAndHolds(ElementsAre(At(1).id)));
}

}  // namespace
}  // namespace koinon::dht
