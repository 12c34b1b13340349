#include "coordinator/distribution/timeline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/digest.h"
#include "base/status_matchers.h"
#include "coordinator/distribution/testing_manifest.h"
#include "coordinator/distribution/testing_network.h"
#include "coordinator/models/testing_signer.h"
#include "dht/records/signed.h"

namespace koinon::coordinator {
namespace {

using ::testing::HasSubstr;

class TimelineTest : public ::testing::Test {
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
  // Versions from 0 to `last`, each the newest when it is stored.
  std::vector<v1::ModelManifest> Live(Timeline* timeline, int64_t last,
                                      const std::string& life) {
    std::vector<v1::ModelManifest> manifests;
    for (int64_t version = 0; version <= last; ++version) {
      manifests.push_back(Manifest(version, life));
      EXPECT_OK(timeline->Store(Spec(), manifests.back(), /*newest=*/true));
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

TEST_F(TimelineTest, OneLife_TheEpochIsTheSubmission) {
  Timeline timeline(&network_, &signer_.node(), {});
  Live(&timeline, 3, "a");
  EXPECT_EQ(HeadVersion(), 3);
  EXPECT_EQ(Epoch(), static_cast<uint64_t>(kTestSubmitted));
}

TEST_F(TimelineTest, RestoredFromAnOlderCopy_TheLivingOneCounts) {
  Timeline before(&network_, &signer_.node(), {});
  const auto abandoned = Live(&before, 10, "a");
  // What it has, it announces at its start.
  Timeline restored(&network_, &signer_.node(), {.all = true});
  ASSERT_OK(restored.Store(Spec(), abandoned[3], /*newest=*/true));
  EXPECT_EQ(HeadVersion(), 3);
  EXPECT_TRUE(Names(abandoned[3]));
  for (const int64_t version : {2, 1, 0}) {
    ASSERT_OK(restored.Store(Spec(), abandoned[version], /*newest=*/false));
  }
  EXPECT_EQ(HeadVersion(), 3);
  for (int64_t version = 4; version <= 11; ++version) {
    const v1::ModelManifest manifest = Manifest(version, "b");
    ASSERT_OK(restored.Store(Spec(), manifest, /*newest=*/true));
    EXPECT_EQ(HeadVersion(), version);
    EXPECT_TRUE(Names(manifest)) << version;
  }
  EXPECT_EQ(Epoch(), static_cast<uint64_t>(kTestSubmitted) + 1);
}

// The version's name was stored, and the coordinator gone before its head was.
TEST_F(TimelineTest, RecoveredBeforeItsLastHead_TheLivingOneCounts) {
  Timeline before(&network_, &signer_.node(), {});
  const auto known = Live(&before, 3, "a");
  ASSERT_OK(before.Store(Spec(), Manifest(4, "a"), /*newest=*/false));
  Timeline recovered(&network_, &signer_.node(), {.jobs = {"job"}});
  ASSERT_OK(recovered.Store(Spec(), known[3], /*newest=*/true));
  EXPECT_EQ(Epoch(), static_cast<uint64_t>(kTestSubmitted));
  const v1::ModelManifest fourth = Manifest(4, "b");
  ASSERT_OK(recovered.Store(Spec(), fourth, /*newest=*/true));
  EXPECT_EQ(HeadVersion(), 4);
  EXPECT_TRUE(Names(fourth));
}

TEST_F(TimelineTest, RestartedAfterARestore_GoesOnInItsEpoch) {
  Timeline before(&network_, &signer_.node(), {});
  const auto abandoned = Live(&before, 5, "a");
  Timeline restored(&network_, &signer_.node(), {.all = true});
  ASSERT_OK(restored.Store(Spec(), abandoned[2], /*newest=*/true));
  const uint64_t epoch = Epoch();
  // With what it had stored, and with a version whose head it had not.
  Timeline again(&network_, &signer_.node(), {});
  ASSERT_OK(again.Store(Spec(), abandoned[2], /*newest=*/true));
  EXPECT_EQ(Epoch(), epoch);
  Timeline later(&network_, &signer_.node(), {});
  const v1::ModelManifest third = Manifest(3, "b");
  ASSERT_OK(later.Store(Spec(), third, /*newest=*/true));
  EXPECT_EQ(HeadVersion(), 3);
  EXPECT_TRUE(Names(third));
  EXPECT_EQ(Epoch(), epoch);
  // And one more copy of the same age is a life of its own.
  Timeline third_life(&network_, &signer_.node(), {.all = true});
  ASSERT_OK(third_life.Store(Spec(), abandoned[2], /*newest=*/true));
  EXPECT_EQ(HeadVersion(), 2);
  EXPECT_EQ(Epoch(), epoch + 1);
}

// A snapshot that starts by itself, or a copy that somebody tries out.
TEST_F(TimelineTest, CopyThatNobodyRestored_IsRefused) {
  Timeline living(&network_, &signer_.node(), {});
  const auto known = Live(&living, 5, "a");
  for (const Timeline::Restored& restored :
       {Timeline::Restored(), Timeline::Restored{.jobs = {"other"}}}) {
    Timeline copy(&network_, &signer_.node(), restored);
    for (const auto& manifest : {known[3], Manifest(4, "b")}) {
      EXPECT_FALSE(copy.Store(Spec(), manifest, /*newest=*/true).ok());
    }
    EXPECT_EQ(HeadVersion(), 5);
    EXPECT_TRUE(Names(known[4]));
    EXPECT_EQ(Epoch(), static_cast<uint64_t>(kTestSubmitted));
  }
  ASSERT_OK(living.Store(Spec(), known[5], /*newest=*/true));
}

TEST_F(TimelineTest, RenewedSignature_IsNoOtherLife) {
  Timeline timeline(&network_, &signer_.node(), {});
  v1::ModelManifest manifest = Manifest(3, "a");
  ASSERT_OK(timeline.Store(Spec(), manifest, /*newest=*/true));
  ASSERT_OK(signer_.get()->Renew(&manifest));
  ASSERT_OK(timeline.Store(Spec(), manifest, /*newest=*/true));
  EXPECT_TRUE(Names(manifest));
  EXPECT_EQ(Epoch(), static_cast<uint64_t>(kTestSubmitted));
}

TEST_F(TimelineTest, NoGreaterEpoch_IsAnErrorAndNoEndlessLoop) {
  const auto records =
      RecordsOf(Spec(), Manifest(9, "a"), /*newest=*/true,
                std::numeric_limits<uint64_t>::max(), signer_.node());
  ASSERT_OK(records);
  for (const auto& record : *records) ASSERT_OK(network_.Put(record).status);
  Timeline timeline(&network_, &signer_.node(), {.all = true});
  EXPECT_THAT(
      timeline.Store(Spec(), Manifest(3, "b"), /*newest=*/true),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("is known")));
}

// Some that hold it, and say what they do not show.
class LyingNetwork final : public StoreNetwork {
 public:
  using StoreNetwork::StoreNetwork;
  Placed Put(const KeyedRecord& record) override {
    Placed placed = StoreNetwork::Put(record);
    placed.contested = true;
    return placed;
  }
};

TEST_F(TimelineTest, RefusalWithoutEvidence_RaisesNothing) {
  LyingNetwork network(signer_.node());
  Timeline timeline(&network, &signer_.node(), {});
  ASSERT_OK(timeline.Store(Spec(), Manifest(3, "a"), /*newest=*/true));
  const auto head =
      network.Newest(dht::MutableKey("test", "server", dht::HeadName("job")));
  ASSERT_OK(head);
  EXPECT_EQ(head->epoch, static_cast<uint64_t>(kTestSubmitted));
}

// As in plaintext, with a key that was lost: what the others hold is not to be
// read here.
class MuteNetwork final : public StoreNetwork {
 public:
  using StoreNetwork::StoreNetwork;
  absl::StatusOr<dht::OpenedRecord> Newest(const dht::Key&) override {
    return absl::NotFoundError("not to be read");
  }
  absl::StatusOr<dht::OpenedRecord> Read(const dht::Key& key) {
    return StoreNetwork::Newest(key);
  }
};

TEST_F(TimelineTest, RefusedByWhatCannotBeRead_RaisesUntilItIsTaken) {
  MuteNetwork network(signer_.node());
  Timeline before(&network, &signer_.node(), {});
  const auto abandoned = Live(&before, 5, "a");
  for (uint64_t life = 1; life <= 3; ++life) {
    Timeline restored(&network, &signer_.node(), {.all = true});
    const v1::ModelManifest manifest = Manifest(3, absl::StrCat("life", life));
    ASSERT_OK(restored.Store(Spec(), manifest, /*newest=*/true));
    const auto head =
        network.Read(dht::MutableKey("test", "server", dht::HeadName("job")));
    ASSERT_OK(head);
    v1::HeadValue value;
    ASSERT_TRUE(value.ParseFromString(head->value));
    EXPECT_EQ(value.version(), 3);
    EXPECT_EQ(head->epoch, static_cast<uint64_t>(kTestSubmitted) + life);
  }
}

// A node in plaintext that always says it has a newer one.
class LyingMuteNetwork final : public StoreNetwork {
 public:
  using StoreNetwork::StoreNetwork;
  Placed Put(const KeyedRecord& record) override {
    Placed placed = StoreNetwork::Put(record);
    placed.contested = true;
    return placed;
  }
  absl::StatusOr<dht::OpenedRecord> Newest(const dht::Key&) override {
    return absl::NotFoundError("not to be read");
  }
  absl::StatusOr<dht::OpenedRecord> Read(const dht::Key& key) {
    return StoreNetwork::Newest(key);
  }
};

TEST_F(TimelineTest, LiarAmongThoseThatKeepIt_HoldsUpNoHead) {
  for (const bool restored : {false, true}) {
    LyingMuteNetwork network(signer_.node());
    Timeline timeline(&network, &signer_.node(), {.all = restored});
    for (int64_t version = 0; version <= 9; ++version) {
      ASSERT_OK(
          timeline.Store(Spec(), Manifest(version, "a"), /*newest=*/true));
      const auto head =
          network.Read(dht::MutableKey("test", "server", dht::HeadName("job")));
      ASSERT_OK(head);
      v1::HeadValue value;
      ASSERT_TRUE(value.ParseFromString(head->value));
      EXPECT_EQ(value.version(), version);
      EXPECT_EQ(head->epoch,
                static_cast<uint64_t>(kTestSubmitted) + (restored ? 4 : 0));
    }
  }
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

TEST_F(TimelineTest, NobodyAnswers_IsSaidAtOnce) {
  DownNetwork network(signer_.node());
  Timeline timeline(&network, &signer_.node(), {});
  EXPECT_THAT(timeline.Store(Spec(), Manifest(0, "a"), /*newest=*/true),
              StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(network.puts, 1);
}

}  // namespace
}  // namespace koinon::coordinator
