#include "dht/peer.h"

#include <gtest/gtest.h>

#include <thread>

#include "absl/strings/str_cat.h"
#include "base/certs.h"
#include "base/mutex.h"
#include "base/rpc_server.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"
#include "dht/records/signed.h"
#include "grpcpp/grpcpp.h"
#include "proto/dht.grpc.pb.h"

namespace koinon::dht {
namespace {

using ::testing::HasSubstr;

constexpr absl::Duration kPatience = absl::Seconds(30);

// A peer with a server of its own, or without one: a client.
struct Host {
  std::unique_ptr<Peer> peer;
  std::unique_ptr<RpcServer> rpc;
  std::string address;

  ~Host() { Stop(); }
  void Stop() {
    if (peer != nullptr) peer->Stop();
    rpc.reset();
  }
};

Peer::Options OptionsOf(LocalNode local) { return {.local = std::move(local)}; }

class PeerTest : public ::testing::TestWithParam<bool> {
 protected:
  bool tls() const { return GetParam(); }

  void SetUp() override {
    if (!tls()) return;
    ASSERT_OK_AND_ASSIGN(ca_, MakeCertificateAuthority("north", 2, Now()));
    ASSERT_OK_AND_ASSIGN(authority_,
                         FederationTrust::Create("north", ca_.certificate_pem));
    ASSERT_OK(WriteFileAtomically(&env_, "ca.pem", ca_.certificate_pem));
  }

  absl::Time Now() const { return clock_.Now(); }

  TlsFiles FilesOf(const std::string& name) const {
    return {absl::StrCat(name, ".pem"), absl::StrCat(name, ".key"), "ca.pem"};
  }

  LocalNode Identity(const std::string& name) {
    if (!tls()) {
      return *LoadOrMakeLocalNode(&env_, absl::StrCat(name, ".key"), "north",
                                  absl::StrCat("worker/", name), "");
    }
    const TlsFiles files = FilesOf(name);
    if (!env_.Exists(files.key)) {
      const auto issued = IssueCertificate(ca_, {.name = name}, 1, Now());
      EXPECT_OK(issued.status());
      EXPECT_OK(WriteFileAtomically(&env_, files.certificate,
                                    issued->certificate_pem));
      EXPECT_OK(WritePrivateFileAtomically(&env_, files.key, issued->key_pem));
    }
    return *LoadLocalNode(&env_, files, Now());
  }

  Peer::Options Options(const std::string& name) {
    Peer::Options options = OptionsOf(Identity(name));
    if (tls()) {
      options.credentials =
          *MakeChannelCredentials(&env_, FilesOf(name), Now());
      options.authority = authority_.get();
    }
    options.env = &env_;
    options.clock = &clock_;
    return options;
  }

  std::unique_ptr<Host> Client(Peer::Options options) {
    auto host = std::make_unique<Host>();
    auto peer = Peer::Create(std::move(options));
    EXPECT_OK(peer.status());
    host->peer = *std::move(peer);
    return host;
  }

  // Serves, and has joined if there is anybody to join.
  std::unique_ptr<Host> Node(const std::string& name,
                             std::vector<std::string> bootstrap,
                             Peer::Options options) {
    auto host = Client(std::move(options));
    RpcServer::Options rpc;
    rpc.listen = "127.0.0.1:0";
    rpc.credentials = tls()
                          ? *MakeServerCredentials(&env_, FilesOf(name), Now())
                          : MakeInsecureServerCredentials();
    rpc.reflection_on_loopback = false;
    auto started = RpcServer::Start(std::move(rpc),
                                    {{host->peer->service(), "PeerService"}});
    EXPECT_OK(started.status());
    host->rpc = *std::move(started);
    host->address = absl::StrCat("127.0.0.1:", host->rpc->port());
    host->peer->Start(host->address, std::move(bootstrap));
    EXPECT_OK(host->peer->WaitUntilJoined(kPatience));
    return host;
  }
  std::unique_ptr<Host> Node(const std::string& name,
                             std::vector<std::string> bootstrap = {}) {
    return Node(name, std::move(bootstrap), Options(name));
  }

  // Until the node knows so many others.
  void AwaitKnown(Host* host, int64_t count) {
    const absl::Time end = Now() + kPatience;
    while (host->peer->status().nodes() < count && Now() < end) {
      std::this_thread::yield();
    }
    ASSERT_GE(host->peer->status().nodes(), count);
  }

  const RealClock clock_;
  MemoryEnv env_;
  CertificateAndKey ca_;
  std::unique_ptr<FederationTrust> authority_;
};

INSTANTIATE_TEST_SUITE_P(All, PeerTest, ::testing::Bool(),
                         [](const auto& info) {
                           return info.param ? "MutualTls" : "Plaintext";
                         });

// A question to `address`, straight, as whoever `options` says, whatever the
// question says of its sender.
grpc::Status AskStraight(Peer* as, const std::string& address,
                         const v1::Contact& sender, v1::AskReply* reply) {
  const auto stub = v1::PeerService::NewStub(as->ChannelTo(address));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::seconds(30));
  v1::AskRequest question;
  *question.mutable_sender() = sender;
  question.mutable_ping();
  return stub->Ask(&context, question, reply);
}

TEST_P(PeerTest, Put_OfOne_IsFoundByTheOthers) {
  const auto a = Node("a");
  const auto b = Node("b", {a->address});
  const auto c = Node("c", {a->address});
  AwaitKnown(c.get(), 2);
  const Key key = ImmutableKey("a value");
  ASSERT_OK(b->peer->PutNow(key, ImmutableRecord("a value")).status());
  ASSERT_OK_AND_ASSIGN(const auto got, c->peer->GetNow(key));
  EXPECT_EQ(got.opened.value, "a value");
  EXPECT_THAT(c->peer->GetNow(Sha256Of("nothing")),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST_P(PeerTest, Client_AsksAndIsInNobodysTable) {
  const auto a = Node("a");
  const Key key = ImmutableKey("a value");
  ASSERT_OK(a->peer->PutNow(key, ImmutableRecord("a value")).status());
  Peer::Options options = Options("client");
  options.leech_only = true;
  const auto client = Client(std::move(options));
  client->peer->Start("ignored:1", {a->address});
  ASSERT_OK(client->peer->WaitUntilJoined(kPatience));
  ASSERT_OK_AND_ASSIGN(const auto got, client->peer->GetNow(key));
  EXPECT_EQ(got.opened.value, "a value");
  EXPECT_EQ(client->peer->self().address, "");
  EXPECT_EQ(a->peer->status().nodes(), 0);
}

TEST_P(PeerTest, Provider_IsFound_AlsoIfItWasAnnouncedBeforeTheStart) {
  const auto a = Node("a");
  const Key content = Sha256Of("a model");
  auto b = Client(Options("b"));
  b->peer->Provide(content);
  b.reset();
  const auto c = Node("c", {a->address});
  c->peer->Provide(content);
  const absl::Time end = Now() + kPatience;
  std::vector<Contact> found;
  while (found.empty() && Now() < end) {
    // UNAVAILABLE for as long as `a` knows nobody.
    found = a->peer->FindProvidersNow(content, 4).value_or(found);
  }
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].id, c->peer->self().id);
  EXPECT_EQ(found[0].address, c->address);
}

TEST_P(PeerTest, Asker_ThatSaysItIsAnother_IsRefusedOverTls) {
  const auto a = Node("a");
  const auto b = Client(Options("b"));
  Contact another = b->peer->self();
  another.id = Sha256Of("somebody else");
  v1::AskReply reply;
  const grpc::Status status =
      AskStraight(b->peer.get(), a->address, ContactToProto(another), &reply);
  EXPECT_EQ(status.error_code(),
            tls() ? grpc::StatusCode::PERMISSION_DENIED : grpc::StatusCode::OK);
  EXPECT_TRUE(AskStraight(b->peer.get(), a->address,
                          ContactToProto(b->peer->self()), &reply)
                  .ok());
  EXPECT_EQ(reply.sender().node_id(), a->peer->self().id.ToBytes());
}

TEST_P(PeerTest, Flood_OfOne_IsLimitedAndCounted_OthersAreAnswered) {
  Peer::Options options = Options("a");
  options.questions_per_second = 0.001;
  options.question_burst = 20;
  const auto a = Node("a", {}, std::move(options));
  const auto flooder = Client(Options("b"));
  const auto other = Client(Options("c"));
  v1::AskReply reply;
  int refused = 0;
  for (int i = 0; i < 50; ++i) {
    const grpc::Status status =
        AskStraight(flooder->peer.get(), a->address,
                    ContactToProto(flooder->peer->self()), &reply);
    if (status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED) ++refused;
  }
  EXPECT_EQ(refused, 30);
  EXPECT_TRUE(AskStraight(other->peer.get(), a->address,
                          ContactToProto(other->peer->self()), &reply)
                  .ok());
  EXPECT_EQ(a->peer->status().counters().at("rate"), 30);
}

TEST_P(PeerTest, Liars_AreCountedAndNamed) {
  const auto host = Client(Options("a"));
  EXPECT_TRUE(host->peer->status().counters().empty());
  const Key liar = Sha256Of("liar");
  for (const Key& node : {liar, liar, Sha256Of("another")}) {
    host->peer->liars()->Count(node, Now());
  }
  const auto counters = host->peer->status().counters();
  EXPECT_EQ(counters.at("wrong_leaf"), 3);
  EXPECT_EQ(counters.at(absl::StrCat("wrong_leaf of ", liar.ToShortHex())), 2);
}

TEST_P(PeerTest, LostPieces_AreCounted) {
  const auto host = Client(Options("a"));
  host->peer->board()->CountLost();
  EXPECT_EQ(host->peer->status().counters().at("lost_piece"), 1);
}

TEST_P(PeerTest, MalformedSender_IsInvalid) {
  const auto a = Node("a");
  const auto b = Client(Options("b"));
  v1::Contact sender = ContactToProto(b->peer->self());
  sender.set_node_id("short");
  v1::AskReply reply;
  EXPECT_EQ(AskStraight(b->peer.get(), a->address, sender, &reply).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_P(PeerTest, DeadNodes_DoNotHoldUpTheLiving) {
  const auto a = Node("a");
  const auto b = Node("b", {a->address});
  auto c = Node("c", {a->address});
  AwaitKnown(b.get(), 2);
  const Key key = ImmutableKey("a value");
  ASSERT_OK(a->peer->PutNow(key, ImmutableRecord("a value")).status());
  c->Stop();
  ASSERT_OK_AND_ASSIGN(const auto got, b->peer->GetNow(key));
  EXPECT_EQ(got.opened.value, "a value");
}

TEST_P(PeerTest, Records_OutliveARestart) {
  const Key key = ImmutableKey("a value");
  {
    Peer::Options options = Options("a");
    options.state_dir = "state";
    const auto a = Node("a", {}, std::move(options));
    ASSERT_OK(a->peer->PutNow(key, ImmutableRecord("a value")).status());
  }
  Peer::Options options = Options("a");
  options.state_dir = "state";
  const auto a = Node("a", {}, std::move(options));
  ASSERT_OK_AND_ASSIGN(const auto got, a->peer->GetNow(key));
  EXPECT_EQ(got.opened.value, "a value");
}

TEST_P(PeerTest, Stop_EndsWhatWaits) {
  const auto a = Node("a");
  Mutex mutex;
  int ended = 0;
  for (int i = 0; i < 100; ++i) {
    a->peer->Get(Sha256Of(absl::StrCat(i)), {}, [&](auto) {
      MutexLock lock(&mutex);
      ++ended;
    });
  }
  a->peer->Stop();
  a->peer->Get(Sha256Of("late"), {}, [&](const auto& got) {
    EXPECT_THAT(got, StatusIs(absl::StatusCode::kCancelled));
    MutexLock lock(&mutex);
    ++ended;
  });
  MutexLock lock(&mutex);
  EXPECT_EQ(ended, 101);
}

TEST_P(PeerTest, BeforeStart_SaysSo) {
  const auto a = Client(Options("a"));
  EXPECT_THAT(a->peer->GetNow(Sha256Of("x")),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("not been started")));
}

TEST_P(PeerTest, WithoutNode_TakesNoPart) {
  Peer::Options options = Options("a");
  options.has_node = false;
  const auto a = Client(std::move(options));
  a->peer->Start("127.0.0.1:1", {"127.0.0.1:2"});
  EXPECT_THAT(a->peer->WaitUntilJoined(kPatience),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(a->peer->GetNow(Sha256Of("x")),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("koinon certs")));
}

TEST_P(PeerTest, NobodyThere_IsUnavailable) {
  const auto a = Client(Options("a"));
  // A port that was free a moment ago.
  std::string free_address;
  { free_address = Node("b")->address; }
  a->peer->Start("", {free_address});
  EXPECT_THAT(a->peer->WaitUntilJoined(kPatience),
              StatusIs(absl::StatusCode::kUnavailable));
}

using PeerTlsTest = PeerTest;
INSTANTIATE_TEST_SUITE_P(Only, PeerTlsTest, ::testing::Values(true),
                         [](const auto&) { return "MutualTls"; });

TEST_P(PeerTlsTest, AnotherNodeAtTheAddress_IsNotBelieved) {
  const auto a = Node("a");
  const auto b = Client(Options("b"));
  const auto stub = v1::PeerService::NewStub(b->peer->ChannelTo(a->address));
  grpc::ClientContext context;
  v1::NodeStatus status;
  ASSERT_TRUE(
      stub->GetNodeStatus(&context, v1::NodeStatusRequest(), &status).ok());
  EXPECT_OK(b->peer->CheckIs(a->peer->self(), *context.auth_context()));
  Contact another = a->peer->self();
  another.id = Sha256Of("somebody else");
  EXPECT_THAT(b->peer->CheckIs(another, *context.auth_context()),
              StatusIs(absl::StatusCode::kUnauthenticated));
}

TEST_P(PeerTlsTest, Strangers_GetNoConnection) {
  const auto a = Node("a");
  const auto stub = v1::PeerService::NewStub(
      grpc::CreateChannel(a->address, MakeInsecureChannelCredentials()));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::seconds(30));
  v1::NodeStatus status;
  EXPECT_EQ(stub->GetNodeStatus(&context, v1::NodeStatusRequest(), &status)
                .error_code(),
            grpc::StatusCode::UNAVAILABLE);
}

}  // namespace
}  // namespace koinon::dht
