#include "coordinator/models/manifest_signer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/clock.h"
#include "base/digest.h"
#include "base/status_matchers.h"
#include "coordinator/models/testing_signer.h"
#include "dht/records/signed.h"

namespace koinon::coordinator {
namespace {

using ::testing::HasSubstr;

constexpr absl::Duration kDay = absl::Hours(24);
const absl::Time kStart = absl::FromUnixMillis(1'700'000'000'000);
constexpr int64_t kSubmitted = 1'699'999'000'123;

v1::ModelManifest Manifest() {
  v1::ModelManifest manifest;
  manifest.set_job("digits");
  manifest.set_version(3);
  manifest.set_digest(Sha256Of("file").ToBytes());
  manifest.set_parent_digest(Sha256Of("parent").ToBytes());
  manifest.set_layout_hash(Sha256Of("layout").ToBytes());
  manifest.set_size_bytes(100'000);
  manifest.mutable_provenance()->set_participants(8);
  manifest.mutable_provenance()->set_loss(0.25);
  return manifest;
}

v1::Content Content() {
  v1::Content content;
  content.set_root(Sha256Of("root").ToBytes());
  content.set_size_bytes(100'000);
  content.set_piece_size_bytes(64 << 10);
  return content;
}

class ManifestSignerTest : public ::testing::Test {
 protected:
  absl::StatusOr<v1::VersionManifest> Open(const v1::ModelManifest& manifest) {
    dht::RecordTrust trust;
    trust.federation = "test";
    trust.pinned = {node_.key.public_key()};
    return dht::OpenManifest(manifest.signed_manifest(), trust, clock_.Now());
  }

  ManualClock clock_{kStart};
  const LocalNode node_ = MakeTestNode();
  const ManifestSigner signer_{&node_, &clock_, 30 * kDay};
};

TEST_F(ManifestSignerTest, Signed_SaysWhatTheManifestSays) {
  v1::Delta delta;
  delta.set_from_digest(Sha256Of("parent").ToBytes());
  *delta.mutable_content() = Content();
  v1::ModelManifest manifest = Manifest();
  ASSERT_OK(signer_.Sign(kSubmitted, Content(), {delta}, &manifest));
  EXPECT_EQ(manifest.signatures(), 1);
  ASSERT_OK_AND_ASSIGN(const v1::VersionManifest version, Open(manifest));
  EXPECT_EQ(version.federation(), "test");
  EXPECT_EQ(version.job(), "digits");
  EXPECT_EQ(version.job_submitted_ms(), kSubmitted);
  EXPECT_EQ(version.version(), 3);
  EXPECT_EQ(version.digest(), manifest.digest());
  EXPECT_EQ(version.parent_digest(), manifest.parent_digest());
  EXPECT_EQ(version.layout_hash(), manifest.layout_hash());
  EXPECT_EQ(version.content().SerializeAsString(),
            Content().SerializeAsString());
  EXPECT_EQ(version.provenance().SerializeAsString(),
            manifest.provenance().SerializeAsString());
  EXPECT_EQ(version.created_ms(), absl::ToUnixMillis(kStart));
  EXPECT_EQ(version.expires_ms(), absl::ToUnixMillis(kStart + 30 * kDay));
  ASSERT_EQ(version.deltas_size(), 1);
  EXPECT_EQ(version.deltas(0).from_digest(), delta.from_digest());
  ASSERT_OK_AND_ASSIGN(const v1::VersionManifest again,
                       SignedVersionOf(manifest));
  EXPECT_EQ(again.SerializeAsString(), version.SerializeAsString());
}

TEST_F(ManifestSignerTest, WhatCannotBeSigned_ChangesNothing) {
  v1::ModelManifest manifest = Manifest();
  manifest.set_digest("short");
  EXPECT_THAT(
      signer_.Sign(kSubmitted, Content(), {}, &manifest),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("digest")));
  EXPECT_TRUE(manifest.signed_manifest().empty());
  EXPECT_EQ(manifest.signatures(), 0);
}

TEST_F(ManifestSignerTest, LastTenthOfItsLife_IsDueAndRenewedWithTheSameWords) {
  v1::ModelManifest manifest = Manifest();
  ASSERT_OK(signer_.Sign(kSubmitted, Content(), {}, &manifest));
  ASSERT_OK_AND_ASSIGN(v1::VersionManifest before, Open(manifest));
  clock_.Advance(27 * kDay - absl::Milliseconds(1));
  EXPECT_FALSE(signer_.IsDue(manifest));
  clock_.Advance(absl::Milliseconds(1));
  EXPECT_TRUE(signer_.IsDue(manifest));
  ASSERT_OK(signer_.Renew(&manifest));
  EXPECT_EQ(manifest.signatures(), 2);
  EXPECT_FALSE(signer_.IsDue(manifest));
  ASSERT_OK_AND_ASSIGN(const v1::VersionManifest after, Open(manifest));
  EXPECT_EQ(after.expires_ms(), absl::ToUnixMillis(kStart + 57 * kDay));
  before.set_created_ms(after.created_ms());
  before.set_expires_ms(after.expires_ms());
  EXPECT_EQ(after.SerializeAsString(), before.SerializeAsString());
}

TEST_F(ManifestSignerTest, AnothersSignature_IsDue) {
  const LocalNode other = MakeTestNode();
  const ManifestSigner before(&other, &clock_, 30 * kDay);
  v1::ModelManifest manifest = Manifest();
  ASSERT_OK(before.Sign(kSubmitted, Content(), {}, &manifest));
  EXPECT_FALSE(Open(manifest).ok());
  EXPECT_TRUE(signer_.IsDue(manifest));
  ASSERT_OK(signer_.Renew(&manifest));
  EXPECT_OK(Open(manifest));
}

TEST_F(ManifestSignerTest, UnsignedOrAnothersManifest_IsNotReadAsTheVersions) {
  v1::ModelManifest manifest = Manifest();
  EXPECT_THAT(SignedVersionOf(manifest),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("digits@3 has no signed manifest")));
  EXPECT_FALSE(signer_.IsDue(manifest));
  ASSERT_OK(signer_.Sign(kSubmitted, Content(), {}, &manifest));
  manifest.set_version(4);
  EXPECT_THAT(SignedVersionOf(manifest),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("another's")));
  EXPECT_THAT(signer_.Renew(&manifest), StatusIs(absl::StatusCode::kDataLoss));
  manifest.set_signed_manifest("\xff\xff not a message");
  EXPECT_THAT(SignedVersionOf(manifest),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("be read")));
}

}  // namespace
}  // namespace koinon::coordinator
