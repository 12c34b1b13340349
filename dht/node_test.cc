#include "dht/node.h"

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"
#include "dht/records/rejection.h"
#include "dht/records/signed.h"
#include "dht/records/testing_signers.h"
#include "dht/store/record_store.h"
#include "dht/transport/simulated.h"
#include "gtest/gtest.h"

namespace koinon::dht {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kFederation[] = "north";

// A network with nodes that the test takes apart. The delays are short, so that
// minutes of simulated time are what the test waits for, not them.
class NodeTest : public testing::Test {
 protected:
  struct Member {
    SimulatedNetwork::Host* host = nullptr;
    MemoryEnv disk;
    FaultInjectingEnv env{&disk};
    std::unique_ptr<RecordStore> store;
    std::unique_ptr<Node> node;
    bool joined = false;
  };

  NodeTest()
      : network_({.seed = 7,
                  .mean_delay = absl::Milliseconds(5),
                  .min_delay = absl::Milliseconds(1)}) {}

  static Contact ContactOf(size_t i) {
    return {Sha256Of(absl::StrCat("node ", i)), absl::StrCat("n", i, ":1"), ""};
  }

  Member* Add(Contact self, const std::vector<std::string>& join_by) {
    members_.push_back(std::make_unique<Member>());
    Member* member = members_.back().get();
    member->host = network_.AddHost(self);
    RecordTrust trust;
    trust.federation = kFederation;
    auto store = RecordStore::Open(&member->env, records_dir_, store_options_,
                                   trust, network_.Now());
    EXPECT_OK(store);
    member->store = *std::move(store);
    Node::Options options = options_;
    options.self = std::move(self);
    options.seed = members_.size();
    options.trust = trust;
    options.trust.pinned = options_.trust.pinned;
    member->node =
        std::make_unique<Node>(options, member->host->loop(),
                               member->host->transport(), member->store.get());
    member->host->Serve([member](const Contact& from, const auto& question) {
      return member->node->Answer(from, question);
    });
    member->node->Join(join_by, [member](const absl::Status& status) {
      member->joined = status.ok();
    });
    return member;
  }

  // So many nodes, which know each other.
  void AddNodes(size_t count) {
    for (size_t i = 0; i < count; ++i) {
      Add(ContactOf(i), i == 0 ? std::vector<std::string>{}
                               : std::vector<std::string>{"n0:1"});
      network_.RunFor(absl::Milliseconds(100));
    }
    network_.RunFor(absl::Seconds(30));
    for (const auto& member : members_) ASSERT_TRUE(member->joined);
  }
  Node& node(size_t i) { return *members_[i]->node; }
  RecordStore& store(size_t i) { return *members_[i]->store; }
  void Kill(size_t i) {
    members_[i]->host->Crash();
    members_[i]->node.reset();
  }

  template <typename Result>
  absl::StatusOr<Result> Wait(
      const std::function<void(std::function<void(absl::StatusOr<Result>)>)>&
          start) {
    auto result = std::make_shared<std::optional<absl::StatusOr<Result>>>();
    start([result](absl::StatusOr<Result> r) {
      EXPECT_FALSE(result->has_value()) << "done twice";
      *result = std::move(r);
    });
    EXPECT_FALSE(result->has_value()) << "done inside the call";
    network_.RunUntilTrue([&] { return result->has_value(); },
                          absl::Minutes(5));
    if (!result->has_value()) return absl::InternalError("never done");
    return **result;
  }
  absl::StatusOr<Node::PutResult> Put(size_t i, const Key& key,
                                      v1::Record record) {
    return Wait<Node::PutResult>(
        [&](auto done) { node(i).Put(key, std::move(record), done); });
  }
  absl::StatusOr<Node::GetResult> Get(size_t i, const Key& key,
                                      Node::GetOptions options = {}) {
    return Wait<Node::GetResult>(
        [&](auto done) { node(i).Get(key, options, done); });
  }
  absl::StatusOr<std::vector<Contact>> Providers(size_t i, const Key& key) {
    return Wait<std::vector<Contact>>(
        [&](auto done) { node(i).FindProviders(key, 10, done); });
  }
  absl::StatusOr<v1::AskReply> Ask(size_t i, const Contact& from,
                                   const v1::AskRequest& question) {
    return node(i).Answer(from, question);
  }

  v1::Record Head(uint64_t sequence, const std::string& value,
                  absl::Duration lasts = absl::Hours(2)) {
    return HeadBy(signer_, sequence, value, lasts);
  }
  v1::Record HeadBy(const LocalNode& signer, uint64_t sequence,
                    const std::string& value,
                    absl::Duration lasts = absl::Hours(2)) {
    v1::MutableRecord body;
    body.set_name("head/digits");
    body.set_epoch(1);
    body.set_sequence(sequence);
    body.set_expires_ms(absl::ToUnixMillis(network_.Now() + lasts));
    body.set_value(value);
    auto record = SignRecord(body, signer);
    EXPECT_OK(record);
    return *record;
  }
  Key HeadKey() const {
    return MutableKey(kFederation, signer_.owner, "head/digits");
  }
  // Puts the record straight into a node's store.
  void Plant(size_t i, const Key& key, const v1::Record& record) {
    ASSERT_OK(store(i).Put(key, record, ContactOf(99).id, network_.Now()));
  }

  SimulatedNetwork network_;
  Node::Options options_;
  RecordStore::Options store_options_;
  std::string records_dir_;  // empty: in memory only
  const LocalNode signer_ = PlainNode('s', kFederation, "server");
  std::vector<std::unique_ptr<Member>> members_;
};

// ---- Put and Get ----

TEST_F(NodeTest, PutAndGet_FromAnyNode_FindTheSameBytes) {
  AddNodes(30);
  const v1::Record record = ImmutableRecord("some bytes");
  const Key key = ImmutableKey("some bytes");
  ASSERT_OK_AND_ASSIGN(const Node::PutResult put, Put(3, key, record));
  EXPECT_GE(put.kept, options_.write_quorum);
  EXPECT_TRUE(put.rejections.empty());
  for (size_t i = 0; i < 30; i += 7) {
    ASSERT_OK_AND_ASSIGN(const Node::GetResult got, Get(i, key));
    EXPECT_EQ(got.opened.value, "some bytes");
    EXPECT_EQ(got.paths, 1u);
  }
  network_.RunFor(absl::Seconds(1));  // the last of them, after the quorum
  size_t holders = 0;
  for (size_t i = 0; i < 30; ++i) holders += store(i).All().size();
  EXPECT_EQ(holders, options_.k);
}

TEST_F(NodeTest, PutToAll_EverybodyHasItWhenItIsDone) {
  AddNodes(30);
  for (const bool full_tables : {true, false}) {
    if (!full_tables) {
      Contact client = ContactOf(50);
      client.address = "";
      options_.routing.full_table = 0;
      Add(client, {"n3:1"});
      network_.RunFor(absl::Seconds(20));
    }
    const std::string value = absl::StrCat("value ", full_tables);
    const size_t by = full_tables ? 3 : 30;
    ASSERT_OK_AND_ASSIGN(
        const Node::PutResult put, Wait<Node::PutResult>([&](auto done) {
          node(by).PutToAll(ImmutableKey(value), ImmutableRecord(value), done);
        }));
    EXPECT_EQ(put.kept, options_.k);
    size_t holders = 0;
    for (size_t i = 0; i < 30; ++i) {
      holders += store(i).Get(ImmutableKey(value), network_.Now()).has_value();
    }
    EXPECT_EQ(holders, options_.k);
  }
}

TEST_F(NodeTest, PutToAll_MuteNodes_SaysHowManyKeptIt) {
  AddNodes(20);
  for (size_t i = 16; i < 20; ++i) {
    members_[i]->host->Serve(
        [](const auto&,
           const v1::AskRequest& question) -> absl::StatusOr<v1::AskReply> {
          if (question.has_put_record()) return absl::CancelledError();
          return v1::AskReply();
        });
  }
  ASSERT_OK_AND_ASSIGN(
      const Node::PutResult put, Wait<Node::PutResult>([&](auto done) {
        node(0).PutToAll(ImmutableKey("x"), ImmutableRecord("x"), done);
      }));
  EXPECT_EQ(put.kept, 16u);
}

TEST_F(NodeTest, Put_FewerNodesThanTheQuorum_AllOfThemKeepIt) {
  AddNodes(3);
  ASSERT_OK_AND_ASSIGN(const Node::PutResult put,
                       Put(0, ImmutableKey("x"), ImmutableRecord("x")));
  EXPECT_EQ(put.kept, 3u);
}

TEST_F(NodeTest, Put_Alone_IsKeptHere) {
  AddNodes(1);
  ASSERT_OK_AND_ASSIGN(const Node::PutResult put,
                       Put(0, ImmutableKey("x"), ImmutableRecord("x")));
  EXPECT_EQ(put.kept, 1u);
  EXPECT_OK(Get(0, ImmutableKey("x")));
}

TEST_F(NodeTest, Put_UnderAnotherKey_IsRefusedBeforeAnybodyIsAsked) {
  AddNodes(3);
  const int64_t messages = network_.messages();
  const auto put = Put(0, ImmutableKey("y"), ImmutableRecord("x"));
  EXPECT_EQ(RejectionOf(put.status()), Rejection::kWrongKey);
  EXPECT_EQ(network_.messages(), messages);
}

TEST_F(NodeTest, Put_OlderThanWhatIsThere_SaysRolledBack) {
  AddNodes(5);
  ASSERT_OK(Put(0, HeadKey(), Head(5, "five")));
  const auto put = Put(1, HeadKey(), Head(4, "four"));
  EXPECT_EQ(RejectionOf(put.status()), Rejection::kRolledBack);
  EXPECT_THAT(std::string(put.status().message()),
              HasSubstr("kept by 0 of 5 nodes"));
  ASSERT_OK_AND_ASSIGN(const auto got, Get(2, HeadKey(), {.newest = true}));
  EXPECT_EQ(got.opened.value, "five");
}

// In a fleet of two, one that refuses is what most can be.
TEST_F(NodeTest, Put_HalfRefuse_SaysWhy) {
  AddNodes(2);
  members_[1]->host->Serve(
      [](const auto&,
         const v1::AskRequest& question) -> absl::StatusOr<v1::AskReply> {
        v1::AskReply reply;
        if (question.has_put_record()) reply.set_rejection("rolled_back");
        return reply;
      });
  const auto put = Put(0, HeadKey(), Head(4, "four"));
  EXPECT_EQ(RejectionOf(put.status()), Rejection::kRolledBack);
  EXPECT_THAT(std::string(put.status().message()),
              HasSubstr("kept by 1 of 2 nodes, 2 wanted"));
}

// As by a machine that was held up: what all of them were asked is lost.
TEST_F(NodeTest, Put_AllAreSilentForAMoment_AreAskedOnceMore) {
  AddNodes(10);
  for (size_t i = 1; i < 10; ++i) network_.SetGroup(members_[i]->host, 1);
  std::optional<absl::StatusOr<Node::PutResult>> put;
  node(0).Put(ImmutableKey("x"), ImmutableRecord("x"),
              [&put](auto result) { put = std::move(result); });
  network_.RunFor(absl::Milliseconds(30));
  for (size_t i = 1; i < 10; ++i) network_.SetGroup(members_[i]->host, 0);
  ASSERT_TRUE(network_.RunUntilTrue([&put] { return put.has_value(); },
                                    absl::Seconds(5)));
  EXPECT_OK(*put);
}

TEST_F(NodeTest, Put_MostNodesMute_IsUnavailableAndSaysHowMany) {
  AddNodes(20);
  for (size_t i = 5; i < 20; ++i) {
    members_[i]->host->Serve(
        [](const auto&,
           const v1::AskRequest& question) -> absl::StatusOr<v1::AskReply> {
          if (question.has_put_record()) return absl::CancelledError();
          return v1::AskReply();
        });
  }
  EXPECT_THAT(Put(0, ImmutableKey("x"), ImmutableRecord("x")),
              StatusIs(absl::StatusCode::kUnavailable,
                       HasSubstr("kept by 5 of 20 nodes, 11 wanted")));
}

TEST_F(NodeTest, Put_WhereNobodyCanWrite_SaysWhyAndIsCounted) {
  records_dir_ = "/records";
  AddNodes(3);
  for (size_t i = 0; i < 3; ++i) members_[i]->env.FillDisk();
  EXPECT_THAT(Put(0, ImmutableKey("x"), ImmutableRecord("x")),
              StatusIs(absl::StatusCode::kUnavailable,
                       AllOf(HasSubstr("kept by 0 of 3 nodes"),
                             HasSubstr("the last that could not: this node "
                                       "cannot write records"))));
  EXPECT_EQ(node(1).status().counters.at("unwritten"), 1);
  EXPECT_EQ(node(1).status().nodes, 2u);  // a full disk is no absence
}

// Nor is a disk that is broken (EIO), or was mounted for reading only (EROFS).
TEST_F(NodeTest, Put_BrokenDisks_AreNoAbsenceAndTellNoPaths) {
  records_dir_ = "/records";
  AddNodes(3);
  int puts = 0;
  for (const absl::StatusCode code :
       {absl::StatusCode::kDataLoss, absl::StatusCode::kPermissionDenied}) {
    const absl::Status broken(code, "/records/x: cannot open");
    for (const auto& member : members_) {
      member->env.FailAlways(FaultInjectingEnv::Operation::kOpen, broken);
    }
    for (int i = 0; i < 4; ++i) {
      const std::string value = absl::StrCat("value ", ++puts);
      EXPECT_THAT(Put(0, ImmutableKey(value), ImmutableRecord(value)),
                  StatusIs(absl::StatusCode::kUnavailable,
                           AllOf(HasSubstr("kept by 0 of 3 nodes"),
                                 HasSubstr("cannot write records"),
                                 Not(HasSubstr("/records")))));
      EXPECT_EQ(node(0).status().nodes, 2u);
    }
    EXPECT_EQ(node(1).status().counters.at("unwritten"), puts);
  }
}

TEST_F(NodeTest, Put_ClientThatKnowsNobody_IsUnavailable) {
  Contact client = ContactOf(0);
  client.address = "";
  Add(client, {});
  network_.RunFor(absl::Seconds(1));
  EXPECT_THAT(Put(0, ImmutableKey("x"), ImmutableRecord("x")),
              StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(NodeTest, Get_NotThere_IsNotFoundAfterDisjointPaths) {
  AddNodes(30);
  EXPECT_THAT(Get(0, ImmutableKey("nowhere")),
              StatusIs(absl::StatusCode::kNotFound));
  EXPECT_EQ(node(0).status().counters.at("gets_escalated"), 1);
}

TEST_F(NodeTest, Get_EmptyTable_IsUnavailable) {
  AddNodes(1);
  EXPECT_THAT(Get(0, ImmutableKey("nowhere")),
              StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(NodeTest, Get_ForgedAnswers_AreCountedAndTheWalkGoesOn) {
  AddNodes(12);
  const Key key = ImmutableKey("true");
  ASSERT_OK(Put(0, key, ImmutableRecord("true")));
  // All but one of the holders now answer with something else.
  for (size_t i = 1; i < 11; ++i) {
    members_[i]->host->Serve(
        [](const auto&,
           const v1::AskRequest& question) -> absl::StatusOr<v1::AskReply> {
          v1::AskReply reply;
          if (question.has_get_record()) {
            *reply.mutable_record() = ImmutableRecord("forged");
          }
          return reply;
        });
  }
  Contact client = ContactOf(50);
  client.address = "";
  Add(client, {"n11:1"});
  network_.RunFor(absl::Seconds(10));
  size_t forged = 0;
  for (int round = 0; round < 10; ++round) {
    ASSERT_OK_AND_ASSIGN(const Node::GetResult got, Get(12, key));
    EXPECT_EQ(got.opened.value, "true");
    for (const auto& [reason, count] : got.rejections) {
      EXPECT_EQ(reason, RejectionName(Rejection::kWrongKey));
      forged += count;
    }
  }
  EXPECT_GT(forged, 0u);
  EXPECT_EQ(node(12).status().counters.at("get_refused_wrong_key"), forged);
}

TEST_F(NodeTest, GetNewest_OldCopies_AreReplaced) {
  AddNodes(10);
  const Key key = HeadKey();
  for (size_t i = 0; i < 4; ++i) Plant(i, key, Head(1, "one"));
  Plant(4, key, Head(2, "two"));
  ASSERT_OK_AND_ASSIGN(const Node::GetResult got,
                       Get(9, key, {.newest = true}));
  EXPECT_EQ(got.opened.value, "two");
  network_.RunFor(absl::Seconds(5));
  for (size_t i = 0; i < 9; ++i) {
    const auto stored = store(i).Get(key, network_.Now());
    ASSERT_TRUE(stored.has_value()) << i;
    EXPECT_EQ(stored->opened.sequence, 2u) << i;
  }
  EXPECT_EQ(node(9).status().counters.at("written_back"), 8);
}

TEST_F(NodeTest, GetNewest_TwoValuesAsNew_IsAnAlarm) {
  AddNodes(10);
  Plant(1, HeadKey(), Head(3, "this"));
  Plant(2, HeadKey(), Head(3, "that"));
  const auto got = Get(9, HeadKey(), {.newest = true});
  EXPECT_EQ(RejectionOf(got.status()), Rejection::kEquivocation);
  EXPECT_EQ(node(9).status().counters.at("equivocations"), 1);
}

TEST_F(NodeTest, GetNewest_ConflictOfThePast_IsNone) {
  AddNodes(10);
  Plant(1, HeadKey(), Head(3, "this"));
  Plant(2, HeadKey(), Head(3, "that"));
  Plant(3, HeadKey(), Head(4, "agreed"));
  ASSERT_OK_AND_ASSIGN(const auto got, Get(9, HeadKey(), {.newest = true}));
  EXPECT_EQ(got.opened.value, "agreed");
}

// In plaintext anybody can sign as the server, with any numbers.
TEST_F(NodeTest, GetNewest_SeveralSigners_TheOneThatIsMeantIsTaken) {
  const LocalNode stranger = PlainNode('x', kFederation, "server");
  AddNodes(10);
  Plant(1, HeadKey(), Head(3, "own"));
  Plant(2, HeadKey(), HeadBy(stranger, 900, "foreign"));
  Plant(3, HeadKey(), HeadBy(stranger, 900, "contradicts itself"));
  const auto got = Get(9, HeadKey(), {.newest = true});
  EXPECT_THAT(
      got,
      StatusIs(absl::StatusCode::kFailedPrecondition,
               testing::AllOf(
                   testing::HasSubstr("head/digits"),
                   testing::HasSubstr(signer_.key.public_key().ToHex()),
                   testing::HasSubstr(stranger.key.public_key().ToHex()))));
  Node::GetOptions meant = {.newest = true};
  meant.signer = signer_.key.public_key();
  ASSERT_OK_AND_ASSIGN(const auto own, Get(9, HeadKey(), meant));
  EXPECT_EQ(own.opened.value, "own");
  EXPECT_EQ(own.opened.signing_key, signer_.key.public_key());
  meant.signer = stranger.key.public_key();
  EXPECT_EQ(RejectionOf(Get(9, HeadKey(), meant).status()),
            Rejection::kEquivocation);
  meant.signer = PlainNode('z', kFederation, "server").key.public_key();
  EXPECT_THAT(Get(9, HeadKey(), meant),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(NodeTest, GetNewest_SeveralSigners_NobodysIsReplacedByAnothers) {
  const LocalNode stranger = PlainNode('x', kFederation, "server");
  AddNodes(10);
  Plant(1, HeadKey(), Head(3, "old"));
  Plant(2, HeadKey(), Head(4, "new"));
  Plant(3, HeadKey(), HeadBy(stranger, 1, "foreign"));
  Node::GetOptions meant = {.newest = true};
  meant.signer = signer_.key.public_key();
  ASSERT_OK_AND_ASSIGN(const auto got, Get(9, HeadKey(), meant));
  EXPECT_EQ(got.opened.value, "new");
  network_.RunFor(absl::Seconds(5));
  for (size_t i = 0; i < 9; ++i) {
    const auto stored = store(i).Get(HeadKey(), network_.Now());
    ASSERT_TRUE(stored.has_value()) << i;
    EXPECT_EQ(stored->opened.value, i == 3 ? "foreign" : "new") << i;
  }
}

// Who knows the coordinator's key takes no other's; but who keeps one is
// honest.
TEST_F(NodeTest, GetNewest_PinnedAndAnother_IsFoundAndNobodyLeavesTheTable) {
  const LocalNode stranger = PlainNode('x', kFederation, "server");
  AddNodes(10);
  options_.trust.pinned = {signer_.key.public_key()};
  Add(ContactOf(10), {"n0:1"});
  network_.RunFor(absl::Seconds(30));
  for (size_t i = 0; i < 10; ++i) {
    Plant(i, HeadKey(), HeadBy(stranger, 900, "foreign"));
  }
  const auto none = Get(10, HeadKey(), {.newest = true});
  EXPECT_THAT(none,
              StatusIs(absl::StatusCode::kNotFound,
                       testing::HasSubstr(stranger.key.public_key().ToHex())));
  EXPECT_EQ(node(10).table().size(), 10u);
}

TEST_F(NodeTest, Get_AfterItsExpiry_FindsNothing) {
  AddNodes(10);
  ASSERT_OK(Put(0, HeadKey(), Head(1, "soon gone", absl::Minutes(5))));
  network_.RunFor(absl::Minutes(4));
  EXPECT_OK(Get(3, HeadKey()));
  network_.RunFor(absl::Minutes(2));
  EXPECT_THAT(Get(3, HeadKey()), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(NodeTest, Lifetime_HandingOnDoesNotProlongIt) {
  store_options_.lifetime = absl::Hours(3);
  store_options_.republish = absl::Minutes(30);
  AddNodes(25);
  ASSERT_OK(Put(0, ImmutableKey("x"), ImmutableRecord("x")));
  network_.RunFor(absl::Minutes(170));
  int64_t republished = 0;
  for (size_t i = 0; i < 25; ++i) {
    const auto counters = node(i).status().counters;
    const auto found = counters.find("republished");
    if (found != counters.end()) republished += found->second;
  }
  EXPECT_GT(republished, 0);
  EXPECT_OK(Get(7, ImmutableKey("x")));
  network_.RunFor(absl::Minutes(15));
  EXPECT_THAT(Get(8, ImmutableKey("x")), StatusIs(absl::StatusCode::kNotFound));
}

// ---- Providers ----

TEST_F(NodeTest, Provide_IsFoundForAsLongAsItGoesOn) {
  AddNodes(25);
  const Key content = Sha256Of("a model");
  node(3).Provide(content);
  node(4).Provide(content);
  network_.RunFor(absl::Seconds(5));
  ASSERT_OK_AND_ASSIGN(auto found, Providers(9, content));
  EXPECT_EQ(found.size(), 2u);
  EXPECT_EQ(node(3).status().providing, 1u);
  // Beyond the lifetime of one announcement.
  network_.RunFor(absl::Minutes(25));
  ASSERT_OK_AND_ASSIGN(found, Providers(9, content));
  EXPECT_EQ(found.size(), 2u);
  node(3).StopProviding(content);
  network_.RunFor(absl::Minutes(11));
  ASSERT_OK_AND_ASSIGN(found, Providers(9, content));
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].id, ContactOf(4).id);
  // Without itself.
  ASSERT_OK_AND_ASSIGN(found, Providers(4, content));
  EXPECT_TRUE(found.empty());
}

TEST_F(NodeTest, Provide_MoreThanNodesRemember_TheMostImportantAreFound) {
  store_options_.max_provider_keys_per_writer = 8;  // of which one is spare
  AddNodes(10);
  const auto content = [](int i) { return Sha256Of(absl::StrCat(i)); };
  const auto is_found = [&](int i) {
    const auto found = Providers(9, content(i));
    return found.ok() && found->size() == 1;
  };
  for (int i = 10; i < 17; ++i) node(3).Provide(content(i), i);
  network_.RunFor(absl::Seconds(5));
  EXPECT_FALSE(node(3).status().counters.contains("unannounced"));
  node(3).Provide(content(5), 5);
  node(3).Provide(content(20), 20);
  network_.RunFor(absl::Seconds(5));
  EXPECT_EQ(node(3).status().counters.at("unannounced"), 2);
  EXPECT_TRUE(is_found(20));  // at once
  EXPECT_FALSE(is_found(5));
  network_.RunFor(absl::Minutes(15));
  for (int i = 11; i < 17; ++i) EXPECT_TRUE(is_found(i)) << i;
  EXPECT_FALSE(is_found(10));  // it has made room
  EXPECT_TRUE(is_found(20));
  node(3).StopProviding(content(20));
  network_.RunFor(absl::Seconds(5));
  EXPECT_EQ(node(3).status().counters.at("unannounced"), 1);
  EXPECT_TRUE(is_found(10));
}

// A content that others provide, too, is no sign of too many.
TEST_F(NodeTest, AddProvider_OfAClient_IsRefused) {
  AddNodes(1);
  v1::AskRequest question;
  question.mutable_add_provider()->set_key(Sha256Of("x").ToBytes());
  Contact client = ContactOf(9);
  client.address = "";
  ASSERT_OK_AND_ASSIGN(const v1::AskReply reply, Ask(0, client, question));
  EXPECT_EQ(reply.rejection(), RejectionName(Rejection::kNotSelf));
  ASSERT_OK_AND_ASSIGN(const v1::AskReply kept, Ask(0, ContactOf(9), question));
  EXPECT_EQ(kept.rejection(), "");
}

// ---- Answers ----

TEST_F(NodeTest, Answer_MalformedQuestions_AreInvalid) {
  AddNodes(1);
  EXPECT_THAT(Ask(0, ContactOf(9), v1::AskRequest()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("question: expected one of")));
  for (const std::string& bytes :
       {std::string(), std::string(31, 'k'), std::string(33, 'k')}) {
    std::vector<v1::AskRequest> questions(5);
    questions[0].mutable_find_node()->set_target(bytes);
    questions[1].mutable_get_record()->set_key(bytes);
    questions[2].mutable_put_record()->set_key(bytes);
    questions[3].mutable_add_provider()->set_key(bytes);
    questions[4].mutable_get_providers()->set_key(bytes);
    for (const v1::AskRequest& question : questions) {
      EXPECT_THAT(Ask(0, ContactOf(9), question),
                  StatusIs(absl::StatusCode::kInvalidArgument,
                           HasSubstr(absl::StrCat("expected 32 bytes, found ",
                                                  bytes.size()))));
    }
  }
  v1::AskRequest negative;
  negative.mutable_find_node()->set_target(Sha256Of("x").ToBytes());
  negative.mutable_find_node()->set_count(-1);
  EXPECT_THAT(Ask(0, ContactOf(9), negative),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(NodeTest, Answer_FindNode_NamesTheClosestWithoutTheAsker) {
  AddNodes(30);
  v1::AskRequest question;
  const Key target = ContactOf(5).id;
  question.mutable_find_node()->set_target(target.ToBytes());
  ASSERT_OK_AND_ASSIGN(const v1::AskReply twenty,
                       Ask(0, ContactOf(5), question));
  ASSERT_EQ(twenty.closer_size(), 20);
  Key before = target;
  for (const v1::Contact& contact : twenty.closer()) {
    const Key id = *Key::FromBytes(contact.node_id());
    EXPECT_NE(id, ContactOf(5).id);
    EXPECT_NE(id, ContactOf(0).id);
    EXPECT_TRUE(Closer(target, before, id));
    before = id;
  }
  question.mutable_find_node()->set_count(3);
  ASSERT_OK_AND_ASSIGN(const v1::AskReply three,
                       Ask(0, ContactOf(5), question));
  EXPECT_EQ(three.closer_size(), 3);
}

TEST_F(NodeTest, Answer_AskerTakesTheSameForTheClosest_NamesNobody) {
  AddNodes(30);
  const Key target = Sha256Of("target");
  v1::AskRequest question;
  question.mutable_find_node()->set_target(target.ToBytes());
  const auto closest = [&](size_t i) {
    return node(i).table().DigestOfClosest(target, options_.k, true);
  };
  ASSERT_EQ(closest(0), closest(5));
  question.set_closest(closest(5));
  ASSERT_OK_AND_ASSIGN(v1::AskReply reply, Ask(0, ContactOf(5), question));
  EXPECT_EQ(reply.closer_size(), 0);
  question.set_closest(closest(5) + 1);
  ASSERT_OK_AND_ASSIGN(reply, Ask(0, ContactOf(5), question));
  EXPECT_EQ(reply.closer_size(), 20);
}

TEST_F(NodeTest, PutAndGet_WhereAllKnowAll_NoAnswerNamesAnybody) {
  AddNodes(30);
  network_.RunFor(absl::Minutes(1));
  size_t answers = 0;
  size_t named = 0;
  for (size_t i = 0; i < 30; ++i) {
    Member* const member = members_[i].get();
    member->host->Serve([&, member](const Contact& from, const auto& question) {
      absl::StatusOr<v1::AskReply> reply = member->node->Answer(from, question);
      if (question.has_put_record() || question.has_get_record()) {
        ++answers;
        if (reply.ok()) named += reply->closer_size();
      }
      return reply;
    });
  }
  ASSERT_OK(Put(3, ImmutableKey("x"), ImmutableRecord("x")));
  // A client is in nobody's table, nor in its own.
  Contact client = ContactOf(50);
  client.address = "";
  Add(client, {"n3:1"});
  network_.RunFor(absl::Minutes(1));
  const size_t before = answers;
  EXPECT_OK(Get(30, ImmutableKey("x")));
  EXPECT_GE(before, 19u);
  EXPECT_GT(answers, before);
  EXPECT_EQ(named, 0u);
}

TEST_F(NodeTest, Answer_WhoAsks_EntersTheTableOnlyOnceItAnswers) {
  AddNodes(1);
  v1::AskRequest ping;
  ping.mutable_ping();
  // Nobody is at this address.
  ASSERT_OK(Ask(0, ContactOf(9), ping));
  network_.RunFor(absl::Seconds(5));
  EXPECT_EQ(node(0).table().size(), 0u);
  auto* host = network_.AddHost(ContactOf(9));
  host->Serve([](const auto&, const auto&) { return v1::AskReply(); });
  ASSERT_OK(Ask(0, ContactOf(9), ping));
  network_.RunFor(absl::Seconds(5));
  EXPECT_TRUE(node(0).table().Contains(ContactOf(9).id));
}

// ---- Membership ----

TEST_F(NodeTest, Client_AsksAndIsInNobodysTable) {
  AddNodes(10);
  ASSERT_OK(Put(0, ImmutableKey("x"), ImmutableRecord("x")));
  Contact client = ContactOf(50);
  client.address = "";
  Member* member = Add(client, {"n3:1"});
  network_.RunFor(absl::Seconds(20));
  EXPECT_TRUE(member->joined);
  EXPECT_OK(Get(10, ImmutableKey("x")));
  EXPECT_OK(Put(10, ImmutableKey("y"), ImmutableRecord("y")));
  EXPECT_TRUE(store(10).All().empty());
  for (size_t i = 0; i < 10; ++i) {
    EXPECT_FALSE(node(i).table().Contains(client.id));
  }
}

TEST_F(NodeTest, Join_NobodyThere_IsUnavailableAndTriedAgain) {
  absl::Status joined;
  Member* member = Add(ContactOf(1), {});
  member->node->Join({"n0:1"}, [&](absl::Status s) { joined = std::move(s); });
  network_.RunFor(absl::Seconds(10));
  EXPECT_THAT(joined,
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("n0:1")));
  EXPECT_EQ(member->node->table().size(), 0u);
  Add(ContactOf(0), {});
  network_.RunFor(absl::Minutes(2));
  EXPECT_TRUE(member->node->table().Contains(ContactOf(0).id));
}

TEST_F(NodeTest, Join_OnlyItself_IsOk) {
  absl::Status joined = absl::UnknownError("");
  Member* member = Add(ContactOf(1), {});
  member->node->Join({"n1:1"}, [&](absl::Status s) { joined = std::move(s); });
  network_.RunFor(absl::Seconds(10));
  EXPECT_OK(joined);
}

TEST_F(NodeTest, SmallFleet_KnowsEverybody) {
  AddNodes(60);
  for (size_t i = 0; i < 60; ++i) EXPECT_EQ(node(i).table().size(), 59u) << i;
}

TEST_F(NodeTest, DeadNode_LeavesTheTables) {
  AddNodes(10);
  Kill(4);
  network_.RunFor(absl::Minutes(2));
  for (size_t i = 0; i < 10; ++i) {
    if (i == 4) continue;
    EXPECT_FALSE(node(i).table().Contains(ContactOf(4).id)) << i;
    EXPECT_EQ(node(i).table().size(), 8u) << i;
  }
}

TEST_F(NodeTest, BusyNode_StaysInTheTables) {
  AddNodes(10);
  // It has too much to do, and says so.
  auto* busy = network_.AddHost(ContactOf(20));
  busy->Serve(
      [](const auto&,
         const v1::AskRequest& question) -> absl::StatusOr<v1::AskReply> {
        if (question.has_ping()) return v1::AskReply();
        return absl::ResourceExhaustedError("busy");
      });
  v1::AskRequest ping;
  ping.mutable_ping();
  ASSERT_OK(Ask(0, ContactOf(20), ping));
  network_.RunFor(absl::Seconds(2));
  ASSERT_TRUE(node(0).table().Contains(ContactOf(20).id));
  for (int i = 0; i < 20; ++i) {
    EXPECT_OK(Put(0, ImmutableKey(absl::StrCat(i)),
                  ImmutableRecord(absl::StrCat(i))));
  }
  network_.RunFor(absl::Minutes(5));
  EXPECT_TRUE(node(0).table().Contains(ContactOf(20).id));
}

TEST_F(NodeTest, NewNeighbour_IsHandedTheRecords) {
  AddNodes(10);
  ASSERT_OK(Put(0, ImmutableKey("x"), ImmutableRecord("x")));
  Add(ContactOf(30), {"n2:1"});
  network_.RunFor(absl::Seconds(30));
  EXPECT_TRUE(store(10).Get(ImmutableKey("x"), network_.Now()).has_value());
}

TEST_F(NodeTest, Destroyed_NothingThatWaitsRuns) {
  AddNodes(10);
  int ran = 0;
  node(1).Put(ImmutableKey("x"), ImmutableRecord("x"), [&](auto) { ++ran; });
  node(1).Get(ImmutableKey("y"), {}, [&](auto) { ++ran; });
  node(1).FindClosest(Sha256Of("z"), [&](auto) { ++ran; });
  node(1).FindProviders(Sha256Of("z"), 3, [&](auto) { ++ran; });
  members_[1]->host->Serve(nullptr);
  members_[1]->node.reset();
  members_[1]->store.reset();
  network_.RunFor(absl::Minutes(2));
  EXPECT_EQ(ran, 0);
}

TEST_F(NodeTest, Destroyed_ByItsOwnCallback_IsFine) {
  AddNodes(5);
  bool ran = false;
  members_[1]->host->Serve(nullptr);
  node(1).Get(ImmutableKey("y"), {}, [&](auto) {
    ran = true;
    members_[1]->node.reset();
  });
  network_.RunFor(absl::Minutes(1));
  EXPECT_TRUE(ran);
}

TEST_F(NodeTest, SmallFleet_ViewOfInventedNodes_IsSoonDoubted) {
  // The only one that it can join by names a thousand nodes that do not exist.
  const Contact liar = ContactOf(0);
  network_.AddHost(liar)->Serve(
      [](const auto&,
         const v1::AskRequest& question) -> absl::StatusOr<v1::AskReply> {
        v1::AskReply reply;
        if (question.find_node().count() <= 20) return reply;
        for (int i = 0; i < 1'000; ++i) {
          const Contact invented = {Sha256Of(absl::StrCat("invented ", i)),
                                    absl::StrCat("x", i, ":1"), ""};
          *reply.add_closer() = ContactToProto(invented);
        }
        return reply;
      });
  Member* const member = Add(ContactOf(1), {});
  member->node->Join({liar.address}, [](const absl::Status&) {});
  network_.RunFor(absl::Seconds(40));
  const auto counters = member->node->status().counters;
  ASSERT_TRUE(counters.contains("views_distrusted"));
  // One view after the other, each longer after the one before.
  const int64_t views = counters.at("views_distrusted");
  EXPECT_LE(views, 5);
  EXPECT_LE(counters.at("failed_questions"), 20 * views);
  EXPECT_EQ(member->node->table().size(), 1u);
}

TEST_F(NodeTest, Get_AloneOfWhatIsHeldHere_IsFound) {
  AddNodes(1);
  const Key key = ImmutableKey("x");
  ASSERT_OK(Put(0, key, ImmutableRecord("x")).status());
  ASSERT_OK_AND_ASSIGN(const Node::GetResult any, Get(0, key));
  EXPECT_EQ(any.opened.value, "x");
  ASSERT_OK_AND_ASSIGN(const Node::GetResult newest,
                       Get(0, key, {.newest = true}));
  EXPECT_EQ(newest.opened.value, "x");
}

// ---- Walks ----

TEST_F(NodeTest, Walk_InventedNodes_CostAFewQuestions) {
  options_.routing.full_table = 0;
  AddNodes(10);
  const Key target = Sha256Of("target");
  // Names twenty nodes that are nearer than everybody, and do not exist.
  auto* liar = network_.AddHost(ContactOf(20));
  liar->Serve([&](const auto&, const auto&) -> absl::StatusOr<v1::AskReply> {
    v1::AskReply reply;
    for (int i = 0; i < 20; ++i) {
      const Contact invented = {
          KeyInBucket(target, 30, Sha256Of(absl::StrCat("invented ", i))),
          absl::StrCat("x", i, ":1"), ""};
      *reply.add_closer() = ContactToProto(invented);
    }
    return reply;
  });
  v1::AskRequest ping;
  ping.mutable_ping();
  ASSERT_OK(Ask(0, ContactOf(20), ping));
  network_.RunFor(absl::Seconds(2));
  ASSERT_TRUE(node(0).table().Contains(ContactOf(20).id));
  ASSERT_OK_AND_ASSIGN(
      const Node::Closest closest,
      Wait<Node::Closest>([&](auto d) { node(0).FindClosest(target, d); }));
  EXPECT_EQ(closest.nodes.size(), 10u);  // all others and the liar
  size_t invented = 0;
  for (const Lookup::Step& step : closest.path) {
    invented += step.contact.address[0] == 'x';
  }
  EXPECT_GT(invented, 0u);
  EXPECT_LE(invented, 4u);
}

}  // namespace
}  // namespace koinon::dht
