#include "coordinator/distribution/record_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/digest.h"
#include "base/status_matchers.h"
#include "coordinator/distribution/testing_manifest.h"
#include "coordinator/distribution/testing_network.h"
#include "coordinator/models/testing_signer.h"
#include "dht/records/rejection.h"
#include "dht/records/signed.h"

namespace koinon::coordinator {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// Of a state that was put in place on purpose later.
constexpr uint64_t kRestored = kTestSubmitted + 1'000'000;

class RecordWriterTest : public ::testing::Test {
 protected:
  // Of versions of one life the files differ from those of another.
  v1::ModelManifest Manifest(int64_t version, const std::string& life) {
    return SignedTestManifest(signer_, "job", version, life);
  }
  static v1::JobSpec Spec() {
    v1::JobSpec spec;
    spec.set_name("job");
    return spec;
  }
  static absl::Status Store(RecordWriter* writer,
                            const v1::ModelManifest& manifest,
                            uint64_t least_epoch = 0, bool newest = true) {
    return writer->Store(Spec(), manifest, newest, least_epoch);
  }
  // Versions from 0 to `last`, each the newest when it is stored.
  std::vector<v1::ModelManifest> Live(int64_t last, const std::string& life) {
    RecordWriter writer(&network_, &signer_.node());
    std::vector<v1::ModelManifest> manifests;
    for (int64_t version = 0; version <= last; ++version) {
      manifests.push_back(Manifest(version, life));
      EXPECT_OK(Store(&writer, manifests.back()));
    }
    return manifests;
  }
  dht::OpenedRecord Named(const std::string& name) {
    auto found = network_.Newest(dht::MutableKey("test", "server", name));
    EXPECT_OK(found) << name;
    return found.ok() ? *found : dht::OpenedRecord();
  }
  int64_t HeadVersion() {
    v1::HeadValue head;
    EXPECT_TRUE(head.ParseFromString(Named(dht::HeadName("job")).value));
    return head.version();
  }
  uint64_t Epoch() { return Named(dht::HeadName("job")).epoch; }
  bool Names(const v1::ModelManifest& manifest) {
    v1::VersionValue value;
    EXPECT_TRUE(value.ParseFromString(
        Named(dht::VersionName("job", manifest.version())).value));
    return value.manifest() ==
           dht::ImmutableKey(manifest.signed_manifest()).ToBytes();
  }

  const TestSigner signer_;
  StoreNetwork network_{signer_.node()};
};

TEST_F(RecordWriterTest, OneLife_TheEpochIsTheSubmission) {
  Live(3, "a");
  EXPECT_EQ(HeadVersion(), 3);
  EXPECT_EQ(Epoch(), static_cast<uint64_t>(kTestSubmitted));
}

TEST_F(RecordWriterTest, RestoredFromAnOlderCopy_TheLivingOneCounts) {
  const auto abandoned = Live(10, "a");
  RecordWriter restored(&network_, &signer_.node());
  // What it has, it announces at its start.
  ASSERT_OK(Store(&restored, abandoned[3], kRestored));
  EXPECT_EQ(HeadVersion(), 3);
  for (const int64_t version : {2, 1, 0}) {
    ASSERT_OK(
        Store(&restored, abandoned[version], kRestored, /*newest=*/false));
  }
  EXPECT_EQ(HeadVersion(), 3);
  for (int64_t version = 4; version <= 11; ++version) {
    const v1::ModelManifest manifest = Manifest(version, "b");
    ASSERT_OK(Store(&restored, manifest, kRestored));
    EXPECT_EQ(HeadVersion(), version);
    EXPECT_TRUE(Names(manifest)) << version;
  }
  EXPECT_EQ(Epoch(), kRestored);
}

// The version's name was stored, and the coordinator gone before its head was.
TEST_F(RecordWriterTest, RecoveredBeforeItsLastHead_TheLivingOneCounts) {
  const auto known = Live(3, "a");
  RecordWriter before(&network_, &signer_.node());
  ASSERT_OK(Store(&before, Manifest(4, "a"), 0, /*newest=*/false));
  RecordWriter recovered(&network_, &signer_.node());
  ASSERT_OK(Store(&recovered, known[3], kRestored));
  // A later start, too, in which nobody says anything.
  RecordWriter later(&network_, &signer_.node());
  const v1::ModelManifest fourth = Manifest(4, "b");
  ASSERT_OK(Store(&later, fourth, kRestored));
  EXPECT_EQ(HeadVersion(), 4);
  EXPECT_TRUE(Names(fourth));
}

// A snapshot that starts by itself, or a copy that somebody tries out.
TEST_F(RecordWriterTest, CopyThatNobodyRestored_IsRefused) {
  const auto known = Live(5, "a");
  RecordWriter copy(&network_, &signer_.node());
  for (const auto& manifest : {known[3], Manifest(4, "b")}) {
    EXPECT_FALSE(Store(&copy, manifest).ok());
  }
  EXPECT_EQ(HeadVersion(), 5);
  EXPECT_TRUE(Names(known[4]));
  RecordWriter living(&network_, &signer_.node());
  ASSERT_OK(Store(&living, known[5]));
}

// The same of one that was restored, however often it has been started.
TEST_F(RecordWriterTest, CopyOfARestoredOne_IsRefused) {
  const auto abandoned = Live(5, "a");
  RecordWriter restored(&network_, &signer_.node());
  ASSERT_OK(Store(&restored, abandoned[2], kRestored));
  const v1::ModelManifest third = Manifest(3, "b");
  ASSERT_OK(Store(&restored, third, kRestored));
  RecordWriter copy(&network_, &signer_.node());
  for (const auto& manifest : {abandoned[2], Manifest(3, "c")}) {
    EXPECT_FALSE(Store(&copy, manifest, kRestored).ok());
  }
  EXPECT_EQ(HeadVersion(), 3);
  EXPECT_TRUE(Names(third));
}

TEST_F(RecordWriterTest, AbandonedOneRunsOn_IsRefusedHoweverFarItGets) {
  const auto abandoned = Live(5, "a");
  RecordWriter restored(&network_, &signer_.node());
  ASSERT_OK(Store(&restored, abandoned[2], kRestored));
  RecordWriter original(&network_, &signer_.node());
  EXPECT_FALSE(Store(&original, abandoned[5]).ok());
  EXPECT_FALSE(Store(&original, Manifest(60, "a")).ok());
  EXPECT_EQ(HeadVersion(), 2);
}

TEST_F(RecordWriterTest, RenewedSignature_IsNoOtherLife) {
  RecordWriter writer(&network_, &signer_.node());
  v1::ModelManifest manifest = Manifest(3, "a");
  ASSERT_OK(Store(&writer, manifest));
  ASSERT_OK(signer_.get()->Renew(&manifest));
  ASSERT_OK(Store(&writer, manifest));
  EXPECT_TRUE(Names(manifest));
  EXPECT_EQ(Epoch(), static_cast<uint64_t>(kTestSubmitted));
}

// Some nodes refuse what enough others keep.
class ContestedNetwork final : public StoreNetwork {
 public:
  using StoreNetwork::StoreNetwork;
  Placed Put(const KeyedRecord& record) override {
    Placed placed = StoreNetwork::Put(record);
    placed.contested = true;
    return placed;
  }
  absl::StatusOr<dht::OpenedRecord> Newest(const dht::Key& key) override {
    if (shown.has_value()) return *shown;
    return StoreNetwork::Newest(key);
  }
  std::optional<absl::StatusOr<dht::OpenedRecord>> shown;
};

TEST_F(RecordWriterTest, RefusalWithoutEvidence_HoldsUpNothing) {
  ContestedNetwork network(signer_.node());
  RecordWriter writer(&network, &signer_.node());
  EXPECT_OK(Store(&writer, Manifest(3, "a")));
  network.shown = absl::NotFoundError("not to be read");
  EXPECT_OK(Store(&writer, Manifest(4, "a")));
  network.shown.reset();
  const auto head =
      network.Newest(dht::MutableKey("test", "server", dht::HeadName("job")));
  ASSERT_OK(head);
  EXPECT_EQ(head->epoch, static_cast<uint64_t>(kTestSubmitted));
}

TEST_F(RecordWriterTest, NewerOneShown_IsNotStoredYet) {
  ContestedNetwork network(signer_.node());
  RecordWriter writer(&network, &signer_.node());
  const v1::ModelManifest manifest = Manifest(3, "a");
  dht::OpenedRecord newer;
  newer.is_mutable = true;
  newer.epoch = kRestored;
  network.shown = newer;
  EXPECT_THAT(Store(&writer, manifest),
              StatusIs(absl::StatusCode::kAborted,
                       AllOf(HasSubstr("version/job/3"),
                             HasSubstr(absl::StrCat("epoch ", kRestored)))));
  network.shown = dht::RejectedError(dht::Rejection::kEquivocation, "two");
  EXPECT_THAT(Store(&writer, manifest), StatusIs(absl::StatusCode::kAborted));
}

class DownNetwork final : public StoreNetwork {
 public:
  using StoreNetwork::StoreNetwork;
  Placed Put(const KeyedRecord&) override {
    ++puts;
    return {.status = absl::UnavailableError("nobody answers")};
  }
  int puts = 0;
};

TEST_F(RecordWriterTest, NobodyAnswers_IsSaidAtOnce) {
  DownNetwork network(signer_.node());
  RecordWriter writer(&network, &signer_.node());
  EXPECT_THAT(Store(&writer, Manifest(0, "a")),
              StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(network.puts, 1);
}

}  // namespace
}  // namespace koinon::coordinator
