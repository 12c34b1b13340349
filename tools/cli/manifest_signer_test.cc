#include "tools/cli/manifest_signer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "base/certs.h"
#include "base/local_node.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"
#include "dht/records/rejection.h"
#include "dht/records/signed.h"
#include "proto/dht.pb.h"

namespace koinon::cli {
namespace {

using dht::Rejection;
using dht::RejectionOf;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Optional;

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

v1::VersionManifest Manifest() {
  v1::VersionManifest manifest;
  manifest.set_format(1);
  manifest.set_federation("north");
  manifest.set_job("digits");
  manifest.set_job_submitted_ms(1);
  manifest.set_version(3);
  manifest.set_digest(std::string(32, 'd'));
  manifest.set_parent_digest(std::string(32, 'p'));
  manifest.set_layout_hash(std::string(32, 'l'));
  manifest.mutable_content()->set_root(std::string(32, 'r'));
  manifest.mutable_content()->set_size_bytes(100);
  manifest.mutable_content()->set_piece_size_bytes(64 << 10);
  manifest.set_created_ms(absl::ToUnixMillis(kNow));
  manifest.set_expires_ms(absl::ToUnixMillis(kNow + absl::Hours(24)));
  return manifest;
}

// What the coordinator says of that version.
v1::ModelManifest Model(const std::string& signed_manifest) {
  const v1::VersionManifest manifest = Manifest();
  v1::ModelManifest model;
  model.set_job(manifest.job());
  model.set_version(manifest.version());
  model.set_digest(manifest.digest());
  model.set_parent_digest(manifest.parent_digest());
  model.set_layout_hash(manifest.layout_hash());
  model.set_size_bytes(manifest.content().size_bytes());
  model.set_signed_manifest(signed_manifest);
  return model;
}

class ManifestSignerTest : public ::testing::Test {
 protected:
  LocalNode Certified(PeerIdentity::Role role, const CertificateAndKey& ca) {
    CertificateSubject subject = {.role = role, .name = "n", .site = ""};
    if (role == PeerIdentity::Role::kServer) {
      subject.dns_names = {"localhost"};
    }
    const auto issued = IssueCertificate(ca, subject, 30, kNow);
    EXPECT_OK(issued);
    EXPECT_OK(WriteFileAtomically(&env_, "/n.pem", issued->certificate_pem));
    EXPECT_OK(WritePrivateFileAtomically(&env_, "/n.key", issued->key_pem));
    EXPECT_OK(WriteFileAtomically(&env_, "/ca.pem", ca.certificate_pem));
    auto node = LoadLocalNode(&env_, {"/n.pem", "/n.key", "/ca.pem"}, kNow);
    EXPECT_OK(node);
    return *std::move(node);
  }
  LocalNode SelfMade(const std::string& path) {
    auto node = LoadOrMakeLocalNode(&env_, path, "north", "server", "");
    EXPECT_OK(node);
    return *std::move(node);
  }
  static std::string Sign(const LocalNode& signer) {
    const auto bytes = dht::SignManifest(Manifest(), signer);
    EXPECT_OK(bytes);
    return *bytes;
  }

  MemoryEnv env_;
  const CertificateAndKey ca_ = *MakeCertificateAuthority("north", 100, kNow);
  const std::unique_ptr<FederationTrust> authority_ =
      *FederationTrust::Create("north", ca_.certificate_pem);
};

TEST_F(ManifestSignerTest, FederationsServer_IsTakenByItsCertificate) {
  const LocalNode server = Certified(PeerIdentity::Role::kServer, ca_);
  SignerTrust trust;
  trust.authority = authority_.get();
  ASSERT_OK_AND_ASSIGN(const OpenedManifest opened,
                       CheckSignedModel(Model(Sign(server)), trust, kNow));
  EXPECT_TRUE(opened.certified);
  EXPECT_EQ(opened.signer, server.key.public_key());
  EXPECT_EQ(opened.manifest.version(), 3);
  EXPECT_THAT(DescribeSigner(opened),
              AllOf(HasSubstr("federation's server"),
                    HasSubstr(server.key.public_key().ToHex())));
}

TEST_F(ManifestSignerTest, WorkerOrForeignServer_IsNot) {
  SignerTrust trust;
  trust.authority = authority_.get();
  trust.take_uncertified = true;  // does not help whoever shows a certificate
  const auto worker = Sign(Certified(PeerIdentity::Role::kWorker, ca_));
  EXPECT_THAT(RejectionOf(OpenSignedManifest(worker, trust, kNow).status()),
              Optional(Rejection::kUntrustedSigner));
  const auto foreign_ca = *MakeCertificateAuthority("north", 100, kNow);
  const auto foreign = Sign(Certified(PeerIdentity::Role::kServer, foreign_ca));
  EXPECT_THAT(RejectionOf(OpenSignedManifest(foreign, trust, kNow).status()),
              Optional(Rejection::kUntrustedSigner));
}

TEST_F(ManifestSignerTest, NoCertificate_OnlyWhereItIsAllowed) {
  const LocalNode coordinator = SelfMade("/a.key");
  SignerTrust trust;
  trust.authority = authority_.get();
  EXPECT_THAT(
      RejectionOf(OpenSignedManifest(Sign(coordinator), trust, kNow).status()),
      Optional(Rejection::kUntrustedSigner));
  trust.take_uncertified = true;
  ASSERT_OK_AND_ASSIGN(const OpenedManifest opened,
                       OpenSignedManifest(Sign(coordinator), trust, kNow));
  EXPECT_FALSE(opened.certified);
  EXPECT_THAT(DescribeSigner(opened), HasSubstr("no certificate"));
}

TEST_F(ManifestSignerTest, Plaintext_TakesAnyKeyOrTheOneInsistedOn) {
  const LocalNode one = SelfMade("/a.key");
  const LocalNode other = SelfMade("/b.key");
  SignerTrust trust;
  trust.take_uncertified = true;
  EXPECT_OK(OpenSignedManifest(Sign(one), trust, kNow));
  trust.signer = other.key.public_key();
  const auto refused = OpenSignedManifest(Sign(one), trust, kNow);
  EXPECT_THAT(RejectionOf(refused.status()),
              Optional(Rejection::kUntrustedSigner));
  EXPECT_THAT(refused.status().message(),
              HasSubstr(other.key.public_key().ToHex()));
  EXPECT_OK(OpenSignedManifest(Sign(other), trust, kNow));
}

TEST_F(ManifestSignerTest, ChangedByte_IsForged) {
  v1::Signed envelope;
  ASSERT_TRUE(envelope.ParseFromString(Sign(SelfMade("/a.key"))));
  v1::VersionManifest manifest = Manifest();
  manifest.set_version(4);
  envelope.set_body(manifest.SerializeAsString());
  SignerTrust trust;
  trust.take_uncertified = true;
  EXPECT_THAT(
      RejectionOf(OpenSignedManifest(envelope.SerializeAsString(), trust, kNow)
                      .status()),
      Optional(Rejection::kForged));
}

TEST_F(ManifestSignerTest, Garbage_IsRefused) {
  SignerTrust trust;
  trust.take_uncertified = true;
  EXPECT_THAT(RejectionOf(OpenSignedManifest("\xff", trust, kNow).status()),
              Optional(Rejection::kMalformed));
  EXPECT_THAT(RejectionOf(OpenSignedManifest("", trust, kNow).status()),
              Optional(Rejection::kMalformed));
  EXPECT_THAT(
      RejectionOf(
          OpenSignedManifest(std::string(20'000, 'x'), trust, kNow).status()),
      Optional(Rejection::kOversize));
}

TEST_F(ManifestSignerTest, AnotherVersionThanDescribed_IsRefused) {
  const std::string bytes = Sign(SelfMade("/a.key"));
  SignerTrust trust;
  trust.take_uncertified = true;
  EXPECT_OK(CheckSignedModel(Model(bytes), trust, kNow));
  const auto expect_mismatch = [&](auto change) {
    v1::ModelManifest model = Model(bytes);
    change(model);
    EXPECT_THAT(RejectionOf(CheckSignedModel(model, trust, kNow).status()),
                Optional(Rejection::kMismatch));
  };
  expect_mismatch([](auto& m) { m.set_job("faces"); });
  expect_mismatch([](auto& m) { m.set_version(2); });
  expect_mismatch([](auto& m) { m.set_digest(std::string(32, 'x')); });
  expect_mismatch([](auto& m) { m.set_parent_digest(""); });
  expect_mismatch([](auto& m) { m.set_layout_hash(std::string(32, 'x')); });
  expect_mismatch([](auto& m) { m.set_size_bytes(99); });
}

TEST_F(ManifestSignerTest, Unsigned_SaysThatTheCoordinatorIsOlder) {
  EXPECT_THAT(CheckSignedModel(Model(""), {}, kNow),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("digits@3: it is older")));
}

}  // namespace
}  // namespace koinon::cli
