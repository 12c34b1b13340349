#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_matchers.h"
#include "base/tls.h"
#include "dht/records/signed.h"
#include "grpcpp/grpcpp.h"
#include "proto/dht.grpc.pb.h"
#include "tools/bench/dht_fleet.h"

// Nodes over real gRPC with mutual TLS, each with its own port, identity and
// certificate.

namespace koinon {
namespace {

using ::testing::HasSubstr;

constexpr absl::Duration kPatience = absl::Minutes(2);

std::string NewDir(const std::string& name) {
  const std::string path = absl::StrCat(::testing::TempDir(), "/", name);
  std::filesystem::remove_all(path);
  std::filesystem::create_directories(path);
  return path;
}

std::unique_ptr<tools::DhtFleet> NewFleet(tools::DhtFleet::Options options,
                                          const std::string& name) {
  options.tls = true;
  options.dir = NewDir(name);
  auto fleet = tools::DhtFleet::Start(std::move(options), kPatience);
  EXPECT_OK(fleet.status());
  return fleet.ok() ? *std::move(fleet) : nullptr;
}

// A question from the node that the channel's certificate says.
grpc::Status Ping(const std::shared_ptr<grpc::Channel>& channel,
                  const dht::Contact& sender, v1::AskReply* reply) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::seconds(30));
  v1::AskRequest question;
  *question.mutable_sender() = dht::ContactToProto(sender);
  question.mutable_ping();
  return v1::PeerService::NewStub(channel)->Ask(&context, question, reply);
}

std::shared_ptr<grpc::Channel> ChannelAs(
    const std::shared_ptr<grpc::ChannelCredentials>& credentials,
    const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetSslTargetNameOverride(kNodeDnsName);
  return grpc::CreateCustomChannel(address, credentials, arguments);
}

dht::Contact ContactOf(const LocalNode& local) {
  return {local.id, "", local.identity.site};
}

TEST(DhtTest, SixtyFourNodes_JoinStoreFindAndSurviveHalf) {
  tools::DhtFleet::Options options;
  options.nodes = 64;
  options.other_connections = 64;
  const auto fleet = NewFleet(options, "dht_64");
  ASSERT_NE(fleet, nullptr);
  constexpr size_t kValues = 20;
  std::vector<dht::Key> keys;
  for (size_t i = 0; i < kValues; ++i) {
    const std::string value = absl::StrCat("value ", i);
    keys.push_back(dht::ImmutableKey(value));
    ASSERT_OK_AND_ASSIGN(
        const auto put,
        fleet->peer(i)->PutNow(keys[i], dht::ImmutableRecord(value)));
    EXPECT_GE(put.kept, 11u);
  }
  for (size_t i = 0; i < kValues; ++i) {
    ASSERT_OK_AND_ASSIGN(const auto got, fleet->peer(63 - i)->GetNow(keys[i]));
    EXPECT_EQ(got.opened.value, absl::StrCat("value ", i));
  }

  const dht::Key content = Sha256Of("a model");
  fleet->peer(40)->Provide(content);
  fleet->peer(41)->Provide(content);
  std::set<std::string> providers;
  const absl::Time end = absl::Now() + kPatience;
  while (providers.size() < 2 && absl::Now() < end) {
    const auto found = fleet->peer(3)->FindProvidersNow(content, 8);
    if (!found.ok()) continue;
    for (const dht::Contact& one : *found) providers.insert(one.address);
  }
  EXPECT_EQ(providers,
            (std::set<std::string>{fleet->address(40), fleet->address(41)}));

  for (size_t i = 0; i < 64; i += 2) fleet->Stop(i);
  for (size_t i = 0; i < kValues; ++i) {
    ASSERT_OK_AND_ASSIGN(const auto got,
                         fleet->peer(2 * i + 1)->GetNow(keys[i]));
    EXPECT_EQ(got.opened.value, absl::StrCat("value ", i));
  }
}

TEST(DhtTest, Impersonator_IsRefused_AndDoesNotAnswerForAnother) {
  tools::DhtFleet::Options options;
  options.nodes = 4;
  const auto fleet = NewFleet(options, "dht_impersonator");
  ASSERT_NE(fleet, nullptr);
  ASSERT_OK_AND_ASSIGN(const LocalNode own, fleet->NewIdentity("mallory"));
  ASSERT_OK_AND_ASSIGN(const auto credentials, fleet->CredentialsOf("mallory"));
  const auto channel = ChannelAs(credentials, fleet->address(0));
  v1::AskReply reply;
  EXPECT_TRUE(Ping(channel, ContactOf(own), &reply).ok());
  // A node's own certificate with another's id.
  const grpc::Status refused = Ping(channel, fleet->peer(1)->self(), &reply);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_THAT(refused.error_message(), HasSubstr("the certificate of node"));

  // Node 1's address is answered by another from now on. Whoever wants node 1
  // does not take it for that.
  dht::Contact meant = fleet->peer(1)->self();
  const std::shared_ptr<grpc::Channel> wrong =
      fleet->peer(0)->ChannelTo(fleet->address(2));
  grpc::ClientContext context;
  v1::NodeStatus status;
  ASSERT_TRUE(v1::PeerService::NewStub(wrong)
                  ->GetNodeStatus(&context, v1::NodeStatusRequest(), &status)
                  .ok());
  EXPECT_THAT(fleet->peer(0)->CheckIs(meant, *context.auth_context()),
              StatusIs(absl::StatusCode::kUnauthenticated));
}

TEST(DhtTest, Strangers_OfAnotherAuthorityOrNone_AreRefused) {
  tools::DhtFleet::Options options;
  options.nodes = 2;
  const auto fleet = NewFleet(options, "dht_strangers");
  const auto others = NewFleet(options, "dht_strangers_others");
  ASSERT_NE(fleet, nullptr);
  ASSERT_NE(others, nullptr);
  ASSERT_OK_AND_ASSIGN(const LocalNode own, others->NewIdentity("mallory"));
  ASSERT_OK_AND_ASSIGN(const auto foreign, others->CredentialsOf("mallory"));
  v1::AskReply reply;
  for (const auto& credentials : {foreign, MakeInsecureChannelCredentials()}) {
    EXPECT_EQ(
        Ping(ChannelAs(credentials, fleet->address(0)), ContactOf(own), &reply)
            .error_code(),
        grpc::StatusCode::UNAVAILABLE);
  }
}

TEST(DhtTest, Flood_OfOneNode_IsLimited_AndOthersGoOn) {
  tools::DhtFleet::Options options;
  options.nodes = 4;
  options.questions_per_second = 50;
  const auto fleet = NewFleet(options, "dht_flood");
  ASSERT_NE(fleet, nullptr);
  ASSERT_OK_AND_ASSIGN(const LocalNode own, fleet->NewIdentity("mallory"));
  ASSERT_OK_AND_ASSIGN(const auto credentials, fleet->CredentialsOf("mallory"));
  const auto channel = ChannelAs(credentials, fleet->address(0));
  v1::AskReply reply;
  int refused = 0;
  // Ten times the burst, and however slow the machine, until it is noticed.
  for (int i = 0; i < 100'000 && (i < 1'000 || refused == 0); ++i) {
    const grpc::Status status = Ping(channel, ContactOf(own), &reply);
    if (status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED) ++refused;
  }
  EXPECT_GT(refused, 0);
  EXPECT_GE(fleet->peer(0)->status().counters().at("rate"), refused);
  const std::string value = "not disturbed";
  const dht::Key key = dht::ImmutableKey(value);
  EXPECT_OK(fleet->peer(1)->PutNow(key, dht::ImmutableRecord(value)).status());
  EXPECT_OK(fleet->peer(2)->GetNow(key).status());
}

TEST(DhtTest, Records_OutliveTheRestartOfAllNodes) {
  tools::DhtFleet::Options options;
  options.nodes = 4;
  options.state_dir = NewDir("dht_restart_state");
  const auto fleet = NewFleet(options, "dht_restart");
  ASSERT_NE(fleet, nullptr);
  const std::string value = "to be kept";
  const dht::Key key = dht::ImmutableKey(value);
  ASSERT_OK(fleet->peer(0)->PutNow(key, dht::ImmutableRecord(value)).status());
  for (size_t i = 0; i < 4; ++i) fleet->Stop(i);
  for (size_t i = 0; i < 4; ++i) {
    ASSERT_OK(fleet->Restart(i));
    ASSERT_OK(fleet->peer(i)->WaitUntilJoined(kPatience));
  }
  ASSERT_OK(fleet->AwaitKnown(3, kPatience));
  for (size_t i = 0; i < 4; ++i) {
    ASSERT_OK_AND_ASSIGN(const auto got, fleet->peer(i)->GetNow(key));
    EXPECT_EQ(got.opened.value, value);
  }
}

}  // namespace
}  // namespace koinon
