#include "worker/models/offered_manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/local_node.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"
#include "dht/records/rejection.h"
#include "dht/swarm/merkle.h"
#include "proto/dht.pb.h"

namespace koinon::worker {
namespace {

using dht::Rejection;
using ::testing::HasSubstr;
using ::testing::Optional;

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

v1::VersionManifest Manifest(int64_t version) {
  v1::VersionManifest manifest;
  manifest.set_format(1);
  manifest.set_federation("north");
  manifest.set_job("digits");
  manifest.set_job_submitted_ms(42);
  manifest.set_version(version);
  manifest.set_digest(std::string(32, static_cast<char>('a' + version)));
  if (version > 0) manifest.set_parent_digest(std::string(32, 'p'));
  manifest.set_layout_hash(std::string(32, 'l'));
  manifest.mutable_content()->set_root(std::string(32, 'r'));
  manifest.mutable_content()->set_size_bytes(100);
  manifest.mutable_content()->set_piece_size_bytes(dht::kMinPieceBytes);
  manifest.set_created_ms(absl::ToUnixMillis(kNow));
  manifest.set_expires_ms(absl::ToUnixMillis(kNow + absl::Hours(24)));
  return manifest;
}

v1::OfferTask OfferOf(const v1::VersionManifest& manifest) {
  v1::OfferTask offer;
  offer.mutable_task()->set_job(manifest.job());
  offer.mutable_task()->set_round(manifest.version() + 1);
  offer.set_base_version(manifest.version());
  offer.set_base_digest(manifest.digest());
  offer.set_layout_hash(manifest.layout_hash());
  offer.set_job_submitted_ms(manifest.job_submitted_ms());
  return offer;
}

class OfferedManifestTest : public ::testing::Test {
 protected:
  OfferedManifestTest() {
    trust_.federation = "north";
    trust_.pinned.insert(coordinator_.key.public_key());
  }
  LocalNode Node(const std::string& path) {
    return *LoadOrMakeLocalNode(&env_, path, "north", "server", "");
  }
  v1::OfferTask Signed(const v1::VersionManifest& manifest,
                       const LocalNode& signer) {
    v1::OfferTask offer = OfferOf(manifest);
    const auto bytes = dht::SignManifest(manifest, signer);
    EXPECT_OK(bytes);
    offer.set_signed_manifest(*bytes);
    return offer;
  }
  void ExpectRefused(const v1::OfferTask& offer, Rejection reason) {
    EXPECT_THAT(
        dht::RejectionOf(OpenOfferedManifest(offer, trust_, kNow).status()),
        Optional(reason));
  }

  MemoryEnv env_;
  const LocalNode coordinator_ = Node("/coordinator.key");
  dht::RecordTrust trust_;
};

TEST_F(OfferedManifestTest, OfTheVersionOffered_IsTaken) {
  ASSERT_OK_AND_ASSIGN(
      const v1::VersionManifest opened,
      OpenOfferedManifest(Signed(Manifest(2), coordinator_), trust_, kNow));
  EXPECT_EQ(opened.version(), 2);
}

TEST_F(OfferedManifestTest, None_SaysWhomToUpgrade) {
  EXPECT_THAT(OpenOfferedManifest(OfferOf(Manifest(2)), trust_, kNow),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("digits@2: the coordinator is older")));
}

TEST_F(OfferedManifestTest, Forged_IsRefused) {
  v1::OfferTask offer = Signed(Manifest(2), coordinator_);
  v1::Signed envelope;
  ASSERT_TRUE(envelope.ParseFromString(offer.signed_manifest()));
  v1::VersionManifest changed = Manifest(2);
  changed.mutable_content()->set_root(std::string(32, 'x'));
  envelope.set_body(changed.SerializeAsString());
  offer.set_signed_manifest(envelope.SerializeAsString());
  ExpectRefused(offer, Rejection::kForged);
}

TEST_F(OfferedManifestTest, SignedByAnother_IsRefused) {
  ExpectRefused(Signed(Manifest(2), Node("/other.key")),
                Rejection::kUntrustedSigner);
}

TEST_F(OfferedManifestTest, Expired_IsRefused) {
  v1::VersionManifest manifest = Manifest(2);
  manifest.set_created_ms(absl::ToUnixMillis(kNow - absl::Hours(48)));
  manifest.set_expires_ms(absl::ToUnixMillis(kNow - absl::Hours(24)));
  ExpectRefused(Signed(manifest, coordinator_), Rejection::kExpired);
}

TEST_F(OfferedManifestTest, OfAnEarlierVersion_IsRefused) {
  v1::OfferTask offer = Signed(Manifest(2), coordinator_);
  offer.set_signed_manifest(*dht::SignManifest(Manifest(1), coordinator_));
  ExpectRefused(offer, Rejection::kMismatch);
}

TEST_F(OfferedManifestTest, OfAnotherFederation_IsRefused) {
  const v1::OfferTask offer = Signed(Manifest(2), coordinator_);
  trust_.federation = "south";
  ExpectRefused(offer, Rejection::kWrongFederation);
}

TEST_F(OfferedManifestTest, OfSomethingElseThanOffered_IsRefused) {
  const v1::OfferTask good = Signed(Manifest(2), coordinator_);
  v1::OfferTask offer = good;
  offer.mutable_task()->set_job("faces");
  ExpectRefused(offer, Rejection::kMismatch);
  offer = good;
  offer.set_base_digest(std::string(32, 'x'));
  ExpectRefused(offer, Rejection::kMismatch);
  offer = good;
  offer.set_layout_hash(std::string(32, 'x'));
  ExpectRefused(offer, Rejection::kMismatch);
  offer = good;
  offer.set_job_submitted_ms(43);
  ExpectRefused(offer, Rejection::kMismatch);
}

TEST_F(OfferedManifestTest, Garbage_IsRefused) {
  v1::OfferTask offer = OfferOf(Manifest(2));
  offer.set_signed_manifest("\xff\xff");
  ExpectRefused(offer, Rejection::kMalformed);
  offer.set_signed_manifest(std::string(1 << 20, 'x'));
  ExpectRefused(offer, Rejection::kOversize);
}

}  // namespace
}  // namespace koinon::worker
