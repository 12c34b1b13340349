#include "worker/testing/fake_origin.h"

#include <gtest/gtest.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/digest.h"
#include "base/status_matchers.h"
#include "base/tls.h"
#include "dht/records/signed.h"
#include "dht/swarm/content_file.h"
#include "dht/swarm/merkle.h"

namespace koinon::worker {
namespace {

constexpr char kJob[] = "job";
constexpr int64_t kSubmittedMs = 42;

dht::MerkleTree TreeOver(const std::string& bytes) {
  dht::MerkleBuilder builder;
  builder.Append(bytes.data(), bytes.size());
  const auto size = static_cast<int64_t>(bytes.size());
  return dht::TreeOf(builder.Finish(), size, dht::PieceSizeFor(size));
}

dht::Peer::Options PeerOptions(LocalNode local, Env* env, const Clock* clock) {
  dht::Peer::Options options{.local = std::move(local)};
  options.is_origin = true;
  options.env = env;
  options.clock = clock;
  return options;
}

}  // namespace

FakeOrigin::FakeOrigin(Env* env, const Clock* clock,
                       absl::string_view federation)
    : env_(env), clock_(clock) {
  EXPECT_OK(env_->MakeDirs("/origin"));
  auto local = LoadOrMakeLocalNode(env_, "/origin/node.key",
                                   std::string(federation), "server", "");
  EXPECT_OK(local);
  auto peer = dht::Peer::Create(PeerOptions(*std::move(local), env_, clock_));
  EXPECT_OK(peer);
  peer_ = *std::move(peer);
  RpcServer::Options options;
  options.listen = "127.0.0.1:0";
  options.credentials = MakeInsecureServerCredentials();
  auto server =
      RpcServer::Start(options, {{peer_->service(), "koinon.v1.PeerService"}});
  EXPECT_OK(server);
  server_ = *std::move(server);
  peer_->Start(address(), {});
}

FakeOrigin::~FakeOrigin() {
  peer_->Stop();
  server_->Stop(absl::ZeroDuration());
}

std::string FakeOrigin::address() const {
  return absl::StrCat("127.0.0.1:", server_->port());
}

v1::Welcome FakeOrigin::welcome() const {
  v1::Welcome welcome;
  welcome.set_federation(local().federation);
  welcome.set_signing_key(local().key.public_key().ToBytes());
  *welcome.mutable_peer() = dht::ContactToProto(peer_->self());
  return welcome;
}

v1::OfferTask FakeOrigin::Publish(int64_t version, const std::string& bytes) {
  const Digest digest = Sha256Of(bytes);
  const dht::MerkleTree tree = TreeOver(bytes);
  const std::string path = absl::StrCat("/origin/", digest.ToHex());
  EXPECT_OK(WriteFileAtomically(env_, path, bytes));
  auto content =
      dht::ContentFile::OpenWhole(env_, path, tree.content, tree.leaves);
  EXPECT_OK(content);
  peer_->board()->Add(*std::move(content), digest);

  v1::VersionManifest& manifest = manifests_[version];
  manifest.Clear();
  manifest.set_format(1);
  manifest.set_federation(local().federation);
  manifest.set_job(kJob);
  manifest.set_job_submitted_ms(kSubmittedMs);
  manifest.set_version(version);
  manifest.set_digest(digest.ToBytes());
  if (version > 0) manifest.set_parent_digest(std::string(32, 'p'));
  manifest.set_layout_hash(std::string(32, 'l'));
  *manifest.mutable_content() = tree.content;
  manifest.set_created_ms(absl::ToUnixMillis(clock_->Now()));
  manifest.set_expires_ms(absl::ToUnixMillis(clock_->Now() + absl::Hours(24)));
  const auto bytes_signed = dht::SignManifest(manifest, local());
  EXPECT_OK(bytes_signed);

  v1::OfferTask offer;
  offer.mutable_task()->set_job(kJob);
  offer.mutable_task()->set_round(version + 1);
  offer.mutable_task()->set_kind(v1::TaskRef::TRAIN);
  offer.set_base_version(version);
  offer.set_base_digest(digest.ToBytes());
  offer.set_layout_hash(manifest.layout_hash());
  offer.set_job_submitted_ms(kSubmittedMs);
  offer.set_signed_manifest(*bytes_signed);
  return offer;
}

}  // namespace koinon::worker
