#include "tools/cli/swarm_pull.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "absl/time/clock.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/local_node.h"
#include "base/signing.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"
#include "dht/records/rejection.h"
#include "dht/records/signed.h"
#include "proto/dht.pb.h"
#include "tools/cli/client_peer.h"
#include "worker/testing/fake_origin.h"

// A client without a coordinator: one node on loopback, in plaintext, has the
// records and the bytes.

namespace koinon::cli {
namespace {

using dht::Rejection;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Optional;

constexpr int64_t kNoBound = int64_t{1} << 40;
const std::string kBytes(300'000, 'm');

class SwarmPullTest : public ::testing::Test {
 protected:
  SwarmPullTest() {
    ClientPeer::Options options;
    options.connection.insecure = true;
    options.bootstrap = {node_.address()};
    auto client = ClientPeer::Join(options);
    EXPECT_OK(client);
    client_ = *std::move(client);
    trust_.take_uncertified = true;
  }

  // The record `name` leads to `manifest`.
  void Tell(const std::string& name, const v1::VersionManifest& manifest) {
    TellBy(&node_, node_.local(), name, manifest);
  }
  // At `node`, the manifest being signed by `signer`.
  void TellBy(worker::FakeOrigin* node, const LocalNode& signer,
              const std::string& name, const v1::VersionManifest& manifest) {
    const auto bytes = dht::SignManifest(manifest, signer);
    EXPECT_OK(bytes);
    const dht::Key key = dht::ImmutableKey(*bytes);
    EXPECT_OK(node->peer()->PutNow(key, dht::ImmutableRecord(*bytes)));
    v1::HeadValue head;
    head.set_version(manifest.version());
    head.set_manifest(key.ToBytes());
    v1::VersionValue version;
    version.set_manifest(key.ToBytes());
    TellValue(node, name,
              name.substr(0, 4) == "head" ? head.SerializeAsString()
                                          : version.SerializeAsString());
  }
  void TellValue(worker::FakeOrigin* node, const std::string& name,
                 const std::string& value) {
    v1::MutableRecord record;
    record.set_name(name);
    record.set_epoch(1);
    record.set_sequence(1);
    record.set_expires_ms(absl::ToUnixMillis(clock_.Now() + absl::Hours(24)));
    record.set_value(value);
    const auto put = dht::SignRecord(record, node->local());
    EXPECT_OK(put);
    EXPECT_OK(node->peer()->PutNow(
        dht::MutableKey(node->local().federation, "server", name), *put));
  }
  absl::StatusOr<FoundVersion> Find(int64_t version) {
    return FindVersion(client_->peer(), {"job", version}, trust_, clock_.Now());
  }
  // The newest, again and again until it comes to that: one search may end
  // before everybody has answered.
  absl::StatusOr<FoundVersion> FindUntil(absl::StatusCode code) {
    const absl::Time end = clock_.Now() + absl::Minutes(1);
    auto found = Find(-1);
    while (found.status().code() != code && clock_.Now() < end) {
      found = Find(-1);
    }
    return found;
  }
  absl::StatusOr<v1::SwarmTraffic> Pull(const v1::VersionManifest& manifest,
                                        int64_t max_bytes = kNoBound) {
    return PullFromSwarm(&env_, client_->peer(), manifest, "/pulled", max_bytes,
                         [](int64_t, int64_t) {});
  }

  RealClock clock_;
  MemoryEnv env_;
  worker::FakeOrigin node_{&env_, &clock_, "north"};
  std::unique_ptr<ClientPeer> client_;
  SignerTrust trust_;
};

TEST_F(SwarmPullTest, Version_IsFoundVerifiedAndFetched) {
  node_.Publish(2, kBytes);
  Tell(dht::VersionName("job", 2), node_.manifest(2));
  node_.peer()->Provide(*Digest::FromBytes(node_.manifest(2).digest()));
  ASSERT_OK_AND_ASSIGN(const FoundVersion found, Find(2));
  EXPECT_FALSE(found.newest);
  EXPECT_EQ(found.opened.signer, node_.local().key.public_key());
  ASSERT_OK_AND_ASSIGN(const v1::SwarmTraffic traffic,
                       Pull(found.opened.manifest));
  EXPECT_EQ(traffic.from_peers() + traffic.from_origin(),
            static_cast<int64_t>(kBytes.size()));
  EXPECT_THAT(ReadFile(&env_, "/pulled", 1 << 20), IsOkAndHolds(kBytes));
  EXPECT_FALSE(env_.Exists("/pulled.partial"));
  EXPECT_FALSE(env_.Exists("/pulled.leaves"));
}

TEST_F(SwarmPullTest, Newest_IsWhatTheHeadSays) {
  node_.Publish(7, kBytes);
  Tell(dht::HeadName("job"), node_.manifest(7));
  ASSERT_OK_AND_ASSIGN(const FoundVersion found, Find(-1));
  EXPECT_TRUE(found.newest);
  EXPECT_EQ(found.opened.manifest.version(), 7);
}

TEST_F(SwarmPullTest, UnknownVersion_IsNotFound) {
  EXPECT_THAT(Find(3), StatusIs(absl::StatusCode::kNotFound,
                                HasSubstr("no record of job@3 in the DHT: ")));
  EXPECT_THAT(Find(-1),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("no record of the newest version of job")));
}

TEST_F(SwarmPullTest, RecordWithoutItsManifest_SaysSo) {
  v1::VersionValue version;
  version.set_manifest(Sha256Of("a manifest").ToBytes());
  TellValue(&node_, dht::VersionName("job", 3), version.SerializeAsString());
  EXPECT_THAT(Find(3), StatusIs(absl::StatusCode::kNotFound,
                                HasSubstr("no manifest of job@3 in the DHT")));
}

TEST_F(SwarmPullTest, RecordOfAnotherVersion_IsAMismatch) {
  node_.Publish(1, kBytes);
  Tell(dht::VersionName("job", 2), node_.manifest(1));
  EXPECT_THAT(dht::RejectionOf(Find(2).status()),
              Optional(Rejection::kMismatch));
}

TEST_F(SwarmPullTest, HeadOfAnotherJob_IsAMismatch) {
  node_.Publish(1, kBytes);
  v1::VersionManifest manifest = node_.manifest(1);
  manifest.set_job("other");
  Tell(dht::HeadName("job"), manifest);
  EXPECT_THAT(dht::RejectionOf(Find(-1).status()),
              Optional(Rejection::kMismatch));
}

// Somebody else's head of a job of the same name, with greater numbers.
TEST_F(SwarmPullTest, SeveralSigners_AreNamedAndTheOneAskedForIsTaken) {
  MemoryEnv other_env;
  worker::FakeOrigin stranger(&other_env, &clock_, "north");
  node_.Publish(3, kBytes);
  stranger.Publish(90, "another");
  Tell(dht::HeadName("job"), node_.manifest(3));
  TellBy(&stranger, stranger.local(), dht::HeadName("job"),
         stranger.manifest(90));
  ClientPeer::Options options;
  options.connection.insecure = true;
  options.bootstrap = {node_.address(), stranger.address()};
  ASSERT_OK_AND_ASSIGN(client_, ClientPeer::Join(options));
  const absl::Time end = clock_.Now() + absl::Minutes(1);
  while (client_->peer()->status().nodes() < 2 && clock_.Now() < end) {
    absl::SleepFor(absl::Milliseconds(5));
  }
  const PublicKey own = node_.local().key.public_key();
  const PublicKey foreign = stranger.local().key.public_key();
  EXPECT_THAT(FindUntil(absl::StatusCode::kFailedPrecondition),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr(own.ToHex()), HasSubstr(foreign.ToHex()),
                             HasSubstr("--signer KEY"))));
  trust_.signer = own;
  ASSERT_OK_AND_ASSIGN(const FoundVersion ours,
                       FindUntil(absl::StatusCode::kOk));
  EXPECT_EQ(ours.opened.manifest.version(), 3);
  EXPECT_EQ(ours.opened.signer, own);
  trust_.signer = foreign;
  ASSERT_OK_AND_ASSIGN(const FoundVersion theirs,
                       FindUntil(absl::StatusCode::kOk));
  EXPECT_EQ(theirs.opened.manifest.version(), 90);
  trust_.signer = SigningKey::Generate().public_key();
  EXPECT_THAT(FindUntil(absl::StatusCode::kFailedPrecondition),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

// It names an old version of the coordinator's, whose key is asked for.
TEST_F(SwarmPullTest, HeadOfAStranger_DoesNotPassForTheSignersOwn) {
  MemoryEnv other_env;
  worker::FakeOrigin stranger(&other_env, &clock_, "north");
  node_.Publish(3, kBytes);
  TellBy(&stranger, node_.local(), dht::HeadName("job"), node_.manifest(3));
  ClientPeer::Options options;
  options.connection.insecure = true;
  options.bootstrap = {stranger.address()};
  ASSERT_OK_AND_ASSIGN(client_, ClientPeer::Join(options));
  EXPECT_THAT(dht::RejectionOf(Find(-1).status()),
              Optional(Rejection::kUntrustedSigner));
  trust_.signer = node_.local().key.public_key();
  EXPECT_THAT(dht::RejectionOf(Find(-1).status()),
              Optional(Rejection::kUntrustedSigner));
}

TEST_F(SwarmPullTest, OnlyAnotherSignersHead_IsRefusedWhereOneIsInsistedOn) {
  node_.Publish(3, kBytes);
  Tell(dht::HeadName("job"), node_.manifest(3));
  trust_.signer = SigningKey::Generate().public_key();
  EXPECT_THAT(dht::RejectionOf(Find(-1).status()),
              Optional(Rejection::kUntrustedSigner));
}

// What somebody says is the newest of somebody else's, and may be an old one.
TEST_F(SwarmPullTest, HeadOfOneKeyManifestOfAnother_IsRefused) {
  node_.Publish(3, kBytes);
  const auto other =
      LoadOrMakeLocalNode(&env_, "/other.key", "north", "server", "");
  ASSERT_OK(other);
  TellBy(&node_, *other, dht::HeadName("job"), node_.manifest(3));
  EXPECT_THAT(dht::RejectionOf(Find(-1).status()),
              Optional(Rejection::kUntrustedSigner));
}

TEST_F(SwarmPullTest, RecordThatLeadsNowhere_SaysSo) {
  TellValue(&node_, dht::VersionName("job", 2), "\xff nothing");
  EXPECT_THAT(Find(2), StatusIs(absl::StatusCode::kDataLoss,
                                HasSubstr("version/job/2")));
}

TEST_F(SwarmPullTest, ExpiredManifest_IsRefused) {
  node_.Publish(1, kBytes);
  v1::VersionManifest manifest = node_.manifest(1);
  manifest.set_created_ms(1);
  manifest.set_expires_ms(2);
  Tell(dht::VersionName("job", 1), manifest);
  EXPECT_THAT(dht::RejectionOf(Find(1).status()),
              Optional(Rejection::kExpired));
}

TEST_F(SwarmPullTest, NobodyServesIt_IsNotFound) {
  node_.Publish(1, kBytes);
  EXPECT_THAT(Pull(node_.manifest(1)),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("no node")));
  EXPECT_FALSE(env_.Exists("/pulled.partial"));
}

TEST_F(SwarmPullTest, OverTheBound_IsRefusedBeforeAnythingIsFetched) {
  node_.Publish(1, kBytes);
  EXPECT_THAT(Pull(node_.manifest(1), 1000),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("--max-bytes is 1000")));
}

TEST(ClientPeer_Join, NobodyThere_IsUnavailable) {
  ClientPeer::Options options;
  options.connection.insecure = true;
  options.patience = absl::Seconds(1);
  options.bootstrap = {"127.0.0.1:1"};
  EXPECT_THAT(
      ClientPeer::Join(options),
      StatusIs(absl::StatusCode::kUnavailable, HasSubstr("127.0.0.1:1")));
}

TEST(ClientPeer_Join, NoNode_SaysWhichFlag) {
  ClientPeer::Options options;
  options.connection.insecure = true;
  EXPECT_THAT(
      ClientPeer::Join(options),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("--bootstrap")));
  options.bootstrap = {"ward-a"};
  EXPECT_THAT(
      ClientPeer::Join(options),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("\"ward-a\"")));
}

}  // namespace
}  // namespace koinon::cli
