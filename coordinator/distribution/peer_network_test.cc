#include "coordinator/distribution/peer_network.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/certs.h"
#include "base/clock.h"
#include "base/rpc_server.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"
#include "coordinator/distribution/record_writer.h"
#include "coordinator/models/manifest_signer.h"
#include "dht/records/signed.h"
#include "grpcpp/grpcpp.h"

namespace koinon::coordinator {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr absl::Duration kPatience = absl::Seconds(30);

// A peer that serves on a port of its own.
struct Host {
  std::unique_ptr<dht::Peer> peer;
  std::unique_ptr<RpcServer> rpc;

  ~Host() {
    if (peer != nullptr) peer->Stop();
    rpc.reset();
  }
  std::string address() const {
    return absl::StrCat("127.0.0.1:", rpc->port());
  }
};

// A coordinator and a node that keeps its records, over TLS or not.
class PeerNetworkTest : public ::testing::TestWithParam<bool> {
 protected:
  bool tls() const { return GetParam(); }

  void SetUp() override {
    if (tls()) {
      ASSERT_OK_AND_ASSIGN(ca_,
                           MakeCertificateAuthority("north", 2, clock_.Now()));
      ASSERT_OK_AND_ASSIGN(
          authority_, FederationTrust::Create("north", ca_.certificate_pem));
      ASSERT_OK(WriteFileAtomically(&env_, "ca.pem", ca_.certificate_pem));
    }
    holder_ = Serve("holder", PeerIdentity::Role::kNode, "node/holder", {});
    coordinator_ = Serve("server", PeerIdentity::Role::kServer, "server",
                         {holder_->address()});
  }

  TlsFiles Issue(const std::string& name, PeerIdentity::Role role) {
    CertificateSubject request;
    request.role = role;
    request.name = name;
    if (role == PeerIdentity::Role::kServer) {
      request.ip_addresses = {"127.0.0.1"};
    }
    const auto issued = IssueCertificate(ca_, request, 1, clock_.Now());
    EXPECT_OK(issued.status());
    TlsFiles files = {absl::StrCat(name, ".pem"), absl::StrCat(name, ".key"),
                      "ca.pem"};
    EXPECT_OK(
        WriteFileAtomically(&env_, files.certificate, issued->certificate_pem));
    EXPECT_OK(WritePrivateFileAtomically(&env_, files.key, issued->key_pem));
    return files;
  }

  std::unique_ptr<Host> Serve(const std::string& name, PeerIdentity::Role role,
                              const std::string& owner,
                              std::vector<std::string> bootstrap) {
    RpcServer::Options rpc;
    rpc.listen = "127.0.0.1:0";
    rpc.reflection_on_loopback = false;
    std::shared_ptr<grpc::ChannelCredentials> credentials;
    const TlsFiles files = tls() ? Issue(name, role) : TlsFiles();
    auto local = tls() ? LoadLocalNode(&env_, files, clock_.Now())
                       : LoadOrMakeLocalNode(&env_, absl::StrCat(name, ".key"),
                                             "north", owner, "");
    EXPECT_OK(local.status());
    if (tls()) {
      credentials = *MakeChannelCredentials(&env_, files, clock_.Now());
      rpc.credentials = *MakeServerCredentials(&env_, files, clock_.Now());
    } else {
      rpc.credentials = MakeInsecureServerCredentials();
    }
    dht::Peer::Options options{.local = *std::move(local),
                               .credentials = std::move(credentials),
                               .authority = authority_.get(),
                               .env = &env_,
                               .clock = &clock_};
    auto host = std::make_unique<Host>();
    auto peer = dht::Peer::Create(std::move(options));
    EXPECT_OK(peer.status());
    host->peer = *std::move(peer);
    auto started = RpcServer::Start(std::move(rpc),
                                    {{host->peer->service(), "PeerService"}});
    EXPECT_OK(started.status());
    host->rpc = *std::move(started);
    host->peer->Start(host->address(), std::move(bootstrap));
    EXPECT_OK(host->peer->WaitUntilJoined(kPatience));
    return host;
  }

  v1::ModelManifest Manifest(int64_t version, const std::string& life) {
    const ManifestSigner signer(&coordinator_->peer->local(), &clock_,
                                absl::Hours(24));
    v1::ModelManifest manifest;
    manifest.set_job("job");
    manifest.set_version(version);
    manifest.set_digest(Sha256Of(absl::StrCat(life, version)).ToBytes());
    manifest.set_parent_digest(Sha256Of("parent").ToBytes());
    manifest.set_layout_hash(Sha256Of("layout").ToBytes());
    v1::Content content;
    content.set_root(Sha256Of("root").ToBytes());
    content.set_size_bytes(100'000);
    content.set_piece_size_bytes(64 << 10);
    EXPECT_OK(signer.Sign(submitted_ms_, content, {}, &manifest));
    return manifest;
  }
  // As the distributor does: a node that is slow to answer is asked again.
  static void Store(RecordWriter* writer, const v1::ModelManifest& manifest,
                    uint64_t least_epoch = 0) {
    const absl::Time end = absl::Now() + kPatience;
    absl::Status stored;
    do {
      stored = writer->Store(Spec(), manifest, /*newest=*/true, least_epoch);
    } while (absl::IsUnavailable(stored) && absl::Now() < end);
    ASSERT_OK(stored);
  }
  static v1::JobSpec Spec() {
    v1::JobSpec spec;
    spec.set_name("job");
    return spec;
  }
  // As the other node finds it.
  int64_t HeadVersion() {
    dht::Node::GetOptions options;
    options.newest = true;
    const auto got = holder_->peer->GetNow(
        dht::MutableKey("north", "server", dht::HeadName("job")), options);
    EXPECT_OK(got.status());
    v1::HeadValue head;
    if (!got.ok() || !head.ParseFromString(got->opened.value)) return -1;
    return head.version();
  }

  const RealClock clock_;
  const int64_t submitted_ms_ = absl::ToUnixMillis(clock_.Now());
  MemoryEnv env_;
  CertificateAndKey ca_;
  std::unique_ptr<FederationTrust> authority_;
  std::unique_ptr<Host> holder_;
  std::unique_ptr<Host> coordinator_;
};

INSTANTIATE_TEST_SUITE_P(All, PeerNetworkTest, ::testing::Bool(),
                         [](const auto& info) {
                           return info.param ? "MutualTls" : "Plaintext";
                         });

TEST_P(PeerNetworkTest, OlderOrOther_IsContested) {
  PeerNetwork network(coordinator_->peer.get());
  const LocalNode& local = coordinator_->peer->local();
  const auto put = [&](const v1::ModelManifest& manifest) {
    const auto records = RecordsOf(Spec(), manifest, true, 1, local);
    EXPECT_OK(records.status());
    const absl::Time end = absl::Now() + kPatience;
    RecordNetwork::Placed placed;
    do {
      placed = network.Put(records->back());
    } while (absl::IsUnavailable(placed.status) && absl::Now() < end);
    return placed;
  };
  const v1::ModelManifest third = Manifest(3, "a");
  EXPECT_OK(put(third).status);
  const RecordNetwork::Placed again = put(third);
  EXPECT_OK(again.status);
  EXPECT_FALSE(again.contested);
  for (const auto& manifest : {Manifest(2, "a"), Manifest(3, "b")}) {
    const RecordNetwork::Placed other = put(manifest);
    EXPECT_FALSE(other.status.ok());
    EXPECT_TRUE(other.contested) << other.status;
  }
}

TEST_P(PeerNetworkTest, StateRestored_TheLivingOneIsFound) {
  PeerNetwork network(coordinator_->peer.get());
  const LocalNode& local = coordinator_->peer->local();
  const v1::ModelManifest second = Manifest(2, "a");
  RecordWriter before(&network, &local);
  Store(&before, second);
  Store(&before, Manifest(3, "a"));
  Store(&before, Manifest(4, "a"));
  EXPECT_EQ(HeadVersion(), 4);
  // A copy of what it was is refused, unless somebody has put it in place.
  RecordWriter copy(&network, &local);
  EXPECT_FALSE(copy.Store(Spec(), second, /*newest=*/true, 0).ok());
  EXPECT_EQ(HeadVersion(), 4);
  const auto epoch = static_cast<uint64_t>(submitted_ms_) + 1;
  RecordWriter restored(&network, &local);
  Store(&restored, second, epoch);
  EXPECT_EQ(HeadVersion(), 2);
  Store(&restored, Manifest(3, "b"), epoch);
  EXPECT_EQ(HeadVersion(), 3);
  EXPECT_FALSE(copy.Store(Spec(), Manifest(9, "a"), /*newest=*/true, 0).ok());
  EXPECT_EQ(HeadVersion(), 3);
}

class PlaintextPeerNetworkTest : public PeerNetworkTest {
 protected:
  static v1::Record ForeignHead(const LocalNode& stranger) {
    v1::MutableRecord record;
    record.set_name(dht::HeadName("job"));
    record.set_epoch(std::numeric_limits<uint64_t>::max());
    record.set_expires_ms(absl::ToUnixMillis(absl::Now() + absl::Hours(24)));
    record.set_value("foreign");
    auto signed_record = dht::SignRecord(record, stranger);
    EXPECT_OK(signed_record.status());
    return *signed_record;
  }
  const dht::Key head_ =
      dht::MutableKey("north", "server", dht::HeadName("job"));
};

INSTANTIATE_TEST_SUITE_P(All, PlaintextPeerNetworkTest,
                         ::testing::Values(false));

// Everybody may sign as the server there, with numbers that none are greater
// than.
TEST_P(PlaintextPeerNetworkTest,
       HeadOfAStranger_HidesTheCoordinatorsFromNobody) {
  const PublicKey own = coordinator_->peer->local().key.public_key();
  coordinator_->peer->AddPinned(own);
  PeerNetwork network(coordinator_->peer.get());
  RecordWriter writer(&network, &coordinator_->peer->local());
  Store(&writer, Manifest(3, "a"));
  const auto stranger = Serve("stranger", PeerIdentity::Role::kServer, "server",
                              {holder_->address(), coordinator_->address()});
  dht::Peer& reader = *stranger->peer;
  const auto get = [&](std::optional<PublicKey> signer) {
    dht::Node::GetOptions options;
    options.newest = true;
    options.signer = signer;
    return reader.GetNow(head_, options);
  };
  const PublicKey foreign = reader.local().key.public_key();
  // The holder knows nobody's key, and takes it; the coordinator does not.
  absl::StatusOr<dht::Node::GetResult> got;
  const absl::Time end = absl::Now() + kPatience;
  do {
    reader.PutNow(head_, ForeignHead(reader.local())).IgnoreError();
    got = get({});
  } while (!absl::IsFailedPrecondition(got.status()) && absl::Now() < end);
  EXPECT_THAT(
      got, StatusIs(absl::StatusCode::kFailedPrecondition,
                    AllOf(HasSubstr(own.ToHex()), HasSubstr(foreign.ToHex()))));
  // One search may end before both have answered.
  const auto get_of = [&](const PublicKey& signer) {
    do {
      got = get(signer);
    } while (!(got.ok() && got->opened.signing_key == signer) &&
             absl::Now() < end);
    return got;
  };
  const auto theirs = get_of(foreign);
  ASSERT_OK(theirs.status());
  EXPECT_EQ(theirs->opened.value, "foreign");
  const auto ours = get_of(own);
  ASSERT_OK(ours.status());
  v1::HeadValue head;
  ASSERT_TRUE(head.ParseFromString(ours->opened.value));
  EXPECT_EQ(head.version(), 3);
  // So does the coordinator itself.
  const auto newest = network.Newest(head_);
  ASSERT_OK(newest.status());
  EXPECT_EQ(newest->signing_key, own);
}

TEST_P(PlaintextPeerNetworkTest, HeadOfAStrangerOnly_IsNotFoundAndHisKeySaid) {
  const LocalNode stranger =
      *LoadOrMakeLocalNode(&env_, "stranger.key", "north", "server", "");
  const absl::Time end = absl::Now() + kPatience;
  absl::Status put;
  do {
    put = holder_->peer->PutNow(head_, ForeignHead(stranger)).status();
  } while (absl::IsUnavailable(put) && absl::Now() < end);
  ASSERT_OK(put);
  PeerNetwork network(coordinator_->peer.get());
  EXPECT_THAT(network.Newest(head_),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr(stranger.key.public_key().ToHex())));
}

}  // namespace
}  // namespace koinon::coordinator
