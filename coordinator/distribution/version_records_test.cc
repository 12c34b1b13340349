#include "coordinator/distribution/version_records.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/digest.h"
#include "base/status_matchers.h"
#include "coordinator/distribution/testing_manifest.h"
#include "coordinator/models/testing_signer.h"
#include "dht/records/signed.h"

namespace koinon::coordinator {
namespace {

v1::JobSpec Spec() {
  v1::JobSpec spec;
  spec.set_name("digits");
  for (int i = 0; i < 20; ++i) {
    (*spec.mutable_training()->mutable_parameters())[absl::StrCat("p", i)] =
        "x";
  }
  return spec;
}

class VersionRecordsTest : public ::testing::Test {
 protected:
  v1::ModelManifest Manifest(int64_t version) {
    return SignedTestManifest(signer_, "digits", version, "file");
  }
  // What a node makes of it that trusts this coordinator.
  absl::StatusOr<dht::OpenedRecord> Open(const KeyedRecord& record) {
    dht::RecordTrust trust;
    trust.federation = "test";
    trust.pinned = {signer_.node().key.public_key()};
    return dht::OpenRecord(record.key, record.record, trust, absl::Now());
  }

  const TestSigner signer_;
};

TEST_F(VersionRecordsTest, Newest_HasAHeadThatLeadsToAllOfIt) {
  const v1::ModelManifest manifest = Manifest(3);
  ASSERT_OK_AND_ASSIGN(
      const std::vector<KeyedRecord> records,
      RecordsOf(Spec(), manifest, /*newest=*/true, 0, signer_.node()));
  ASSERT_EQ(records.size(), 4);

  ASSERT_OK_AND_ASSIGN(const auto signed_manifest, Open(records[0]));
  EXPECT_EQ(signed_manifest.value, manifest.signed_manifest());
  ASSERT_OK_AND_ASSIGN(const auto spec_record, Open(records[1]));
  v1::JobSpec spec;
  ASSERT_TRUE(spec.ParseFromString(spec_record.value));
  EXPECT_EQ(EncodeJobSpec(spec), EncodeJobSpec(Spec()));

  ASSERT_OK_AND_ASSIGN(const auto version_record, Open(records[2]));
  EXPECT_EQ(records[2].key,
            dht::MutableKey("test", "server", dht::VersionName("digits", 3)));
  v1::VersionValue version;
  ASSERT_TRUE(version.ParseFromString(version_record.value));
  EXPECT_EQ(version.manifest(), records[0].key.ToBytes());

  ASSERT_OK_AND_ASSIGN(const auto head_record, Open(records[3]));
  EXPECT_EQ(records[3].key,
            dht::MutableKey("test", "server", dht::HeadName("digits")));
  v1::HeadValue head;
  ASSERT_TRUE(head.ParseFromString(head_record.value));
  EXPECT_EQ(head.version(), 3);
  EXPECT_EQ(head.manifest(), records[0].key.ToBytes());
  EXPECT_EQ(head.job_spec(), records[1].key.ToBytes());
  EXPECT_EQ(head_record.epoch, static_cast<uint64_t>(kTestSubmitted));
  EXPECT_EQ(SignaturesOf(head_record.sequence), 1);
}

TEST_F(VersionRecordsTest, OlderVersion_HasNoHead) {
  ASSERT_OK_AND_ASSIGN(
      const std::vector<KeyedRecord> records,
      RecordsOf(Spec(), Manifest(3), /*newest=*/false, 0, signer_.node()));
  ASSERT_EQ(records.size(), 2);
  EXPECT_EQ(records[1].key,
            dht::MutableKey("test", "server", dht::VersionName("digits", 3)));
}

TEST_F(VersionRecordsTest, SpecTooLargeForARecord_IsLeftOutOfTheHead) {
  v1::JobSpec spec = Spec();
  (*spec.mutable_training()->mutable_parameters())["long"] =
      std::string(dht::kMaxRecordBytes, 'x');
  ASSERT_OK_AND_ASSIGN(
      const std::vector<KeyedRecord> records,
      RecordsOf(spec, Manifest(3), /*newest=*/true, 0, signer_.node()));
  ASSERT_EQ(records.size(), 3);
  ASSERT_OK_AND_ASSIGN(const auto head_record, Open(records[2]));
  v1::HeadValue head;
  ASSERT_TRUE(head.ParseFromString(head_record.value));
  EXPECT_TRUE(head.job_spec().empty());
}

// A renewed signature changes what the head points to, so it must replace it,
// and the next version's head must replace both.
TEST_F(VersionRecordsTest, LaterSignaturesAndVersions_ReplaceEarlierOnes) {
  std::vector<dht::OpenedRecord> heads;
  v1::ModelManifest third = Manifest(3);
  v1::ModelManifest renewed = third;
  ASSERT_OK(signer_.get()->Renew(&renewed));
  ASSERT_OK(signer_.get()->Renew(&renewed));
  for (const v1::ModelManifest& manifest : {third, renewed, Manifest(4)}) {
    ASSERT_OK_AND_ASSIGN(const auto records,
                         RecordsOf(Spec(), manifest, true, 0, signer_.node()));
    ASSERT_OK_AND_ASSIGN(auto head, Open(records.back()));
    heads.push_back(std::move(head));
  }
  EXPECT_EQ(dht::Compare(heads[1], heads[0]), dht::Newer::kFirst);
  EXPECT_EQ(dht::Compare(heads[2], heads[1]), dht::Newer::kFirst);
  EXPECT_EQ(SignaturesOf(heads[1].sequence), 3);
}

TEST_F(VersionRecordsTest, LeastEpoch_IsOfTheNamedOnesIfItIsGreater) {
  constexpr auto kEpoch = static_cast<uint64_t>(kTestSubmitted);
  for (const auto& [least, expected] :
       {std::pair{kEpoch - 1, kEpoch}, std::pair{kEpoch + 7, kEpoch + 7}}) {
    ASSERT_OK_AND_ASSIGN(
        const auto records,
        RecordsOf(Spec(), Manifest(3), true, least, signer_.node()));
    ASSERT_OK_AND_ASSIGN(const auto version, Open(records[2]));
    ASSERT_OK_AND_ASSIGN(const auto head, Open(records[3]));
    EXPECT_EQ(version.epoch, expected);
    EXPECT_EQ(head.epoch, expected);
  }
}

TEST_F(VersionRecordsTest, SameVersionAgain_IsTheSameRecord) {
  const v1::ModelManifest manifest = Manifest(3);
  ASSERT_OK_AND_ASSIGN(const auto first,
                       RecordsOf(Spec(), manifest, true, 0, signer_.node()));
  ASSERT_OK_AND_ASSIGN(const auto second,
                       RecordsOf(Spec(), manifest, true, 0, signer_.node()));
  for (size_t i = 0; i < first.size(); ++i) {
    EXPECT_EQ(first[i].key, second[i].key);
    EXPECT_EQ(first[i].record.SerializeAsString(),
              second[i].record.SerializeAsString());
  }
}

TEST_F(VersionRecordsTest, SignaturesBeyondTheirBound_StayOfTheirVersion) {
  v1::ModelManifest manifest = Manifest(3);
  manifest.set_signatures(int64_t{1} << 40);
  EXPECT_LT(SequenceOf(manifest), SequenceOf(Manifest(4)));
  EXPECT_GT(SequenceOf(manifest), SequenceOf(Manifest(3)));
}

TEST_F(VersionRecordsTest, UnsignedVersion_HasNoRecords) {
  v1::ModelManifest manifest = Manifest(3);
  manifest.clear_signed_manifest();
  EXPECT_THAT(RecordsOf(Spec(), manifest, true, 0, signer_.node()),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

}  // namespace
}  // namespace koinon::coordinator
