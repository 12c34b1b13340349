#include "coordinator/distribution/distributor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"
#include "coordinator/models/testing_signer.h"
#include "coordinator/models/version_contents.h"
#include "dht/records/signed.h"
#include "dht/swarm/content_board.h"

namespace koinon::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// Far beyond what any of these tests takes: a wait that reaches it has failed.
constexpr absl::Duration kPatience = absl::Seconds(60);

// A DHT that remembers what it was asked, and fails as often as it is told.
class FakeNetwork final : public RecordNetwork {
 public:
  std::optional<v1::Contact> Self() override {
    v1::Contact self;
    self.set_address("coordinator:7070");
    return self;
  }
  Placed Put(const KeyedRecord& record) override {
    MutexLock lock(&mutex_);
    ++attempts_;
    changed_.SignalAll();
    if (failures_ > 0) {
      --failures_;
      return {.status = absl::UnavailableError("nobody answers")};
    }
    while (record.key == held_) {
      holding_ = true;
      changed_.SignalAll();
      changed_.Wait(&mutex_);
    }
    keys_.push_back(record.key);
    return {};
  }
  absl::StatusOr<dht::OpenedRecord> Newest(const dht::Key&) override {
    return absl::UnavailableError("nobody answers");
  }
  void Provide(const dht::Key& content) override {
    MutexLock lock(&mutex_);
    provided_.insert(content);
  }
  void StopProviding(const dht::Key& content) override {
    MutexLock lock(&mutex_);
    provided_.erase(content);
  }

  void FailNext(int count) {
    MutexLock lock(&mutex_);
    failures_ = count;
  }
  // Puts of this record wait until there is none.
  void Hold(std::optional<dht::Key> key) {
    MutexLock lock(&mutex_);
    held_ = key;
    changed_.SignalAll();
  }
  bool AwaitHeld() {
    return Await([&] { return holding_; });
  }
  bool AwaitAttempts(int count) {
    return Await([&] { return attempts_ >= count; });
  }
  bool AwaitKey(const dht::Key& key) {
    return Await([&] {
      return std::find(keys_.begin(), keys_.end(), key) != keys_.end();
    });
  }
  int attempts() {
    MutexLock lock(&mutex_);
    return attempts_;
  }
  std::vector<dht::Key> keys() {
    MutexLock lock(&mutex_);
    return keys_;
  }
  std::set<dht::Key> provided() {
    MutexLock lock(&mutex_);
    return provided_;
  }

 private:
  bool Await(const std::function<bool()>& done) {
    MutexLock lock(&mutex_);
    while (!done()) {
      if (changed_.WaitWithTimeout(&mutex_, kPatience)) return done();
    }
    return true;
  }

  Mutex mutex_;
  CondVar changed_;
  int attempts_ ABSL_GUARDED_BY(mutex_) = 0;
  int failures_ ABSL_GUARDED_BY(mutex_) = 0;
  std::optional<dht::Key> held_ ABSL_GUARDED_BY(mutex_);
  bool holding_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<dht::Key> keys_ ABSL_GUARDED_BY(mutex_);
  std::set<dht::Key> provided_ ABSL_GUARDED_BY(mutex_);
};

class DistributorTest : public ::testing::Test {
 protected:
  DistributorTest() {
    job_.spec.set_name("job");
    job_.submitted = absl::FromUnixMillis(1'700'000'000'000);
  }
  std::unique_ptr<Distributor> Make(RecordNetwork* network) {
    Distributor::Options options;
    options.schedule.first_retry = absl::Milliseconds(1);
    options.schedule.last_retry = absl::Milliseconds(2);
    options.schedule.first_refresh = absl::Hours(1);
    options.pause = absl::ZeroDuration();
    return std::make_unique<Distributor>(options, &store_, &board_, network,
                                         &signer_.node(), &clock_);
  }
  // A version in the store, signed, with a delta from the one before.
  v1::ModelManifest Write(int64_t version,
                          const v1::ModelManifest* before = nullptr,
                          const std::string& parent = "",
                          const JobId& job = "job") {
    constexpr size_t kWeights = 50'000;
    auto layout = ModelLayout::Create({{"w", DType::kF32, {kWeights}}});
    EXPECT_OK(layout);
    auto writer = store_.NewVersion(job, version, *layout);
    EXPECT_OK(writer);
    EXPECT_OK((*writer)->Append(std::vector<float>(kWeights, version + 1.0f)));
    Digest parent_digest;
    if (before != nullptr) {
      parent_digest = *Digest::FromBytes(before->digest());
    } else if (!parent.empty()) {
      parent_digest = Sha256Of(parent);
    }
    auto manifest = (*writer)->Publish(parent_digest, {});
    EXPECT_OK(manifest);
    std::vector<v1::Delta> deltas;
    if (before != nullptr) {
      auto delta = WriteVersionDelta(store_, *before, *manifest);
      EXPECT_OK(delta);
      EXPECT_TRUE(delta->has_value());
      deltas.push_back(**delta);
    }
    EXPECT_OK(signer_.get()->Sign(absl::ToUnixMillis(job_.submitted),
                                  (*writer)->content(), deltas, &*manifest));
    return *manifest;
  }
  static Digest RootOf(const v1::Content& content) {
    return *Digest::FromBytes(content.root());
  }
  dht::Key HeadKey() const {
    return dht::MutableKey("test", "server", dht::HeadName("job"));
  }

  const RealClock clock_;
  const TestSigner signer_;
  MemoryEnv env_;
  ModelStore store_{&env_, "/models", 4096};
  dht::ContentBoard board_;
  JobRow job_;
};

TEST_F(DistributorTest, Served_IsOnTheBoardWithItsDelta_AndNobodyIsTold) {
  FakeNetwork network;
  auto distributor = Make(&network);
  distributor->Start();
  const v1::ModelManifest base = Write(0);
  const v1::ModelManifest next = Write(1, &base);
  distributor->Serve(next);
  ASSERT_OK_AND_ASSIGN(const auto version, SignedVersionOf(next));
  const auto file = board_.Find(RootOf(version.content()));
  ASSERT_NE(file, nullptr);
  EXPECT_TRUE(file->complete());
  EXPECT_NE(board_.Find(RootOf(version.deltas(0).content())), nullptr);
  distributor->Stop();
  EXPECT_THAT(network.keys(), IsEmpty());
  EXPECT_THAT(network.provided(), IsEmpty());
}

TEST_F(DistributorTest, Announced_IsStoredHeadLastAndProvided) {
  FakeNetwork network;
  auto distributor = Make(&network);
  const v1::ModelManifest manifest = Write(0);
  distributor->Serve(manifest);
  distributor->Announce(job_, manifest, /*newest=*/true);
  distributor->Start();
  ASSERT_TRUE(network.AwaitKey(HeadKey()));
  distributor->Stop();
  EXPECT_THAT(
      network.keys(),
      ElementsAre(dht::ImmutableKey(manifest.signed_manifest()),
                  dht::ImmutableKey(EncodeJobSpec(job_.spec)),
                  dht::MutableKey("test", "server", dht::VersionName("job", 0)),
                  HeadKey()));
  EXPECT_THAT(network.provided(),
              ElementsAre(*Digest::FromBytes(manifest.digest())));
}

TEST_F(DistributorTest, Failures_AreTriedAgainUntilTheyAreNone) {
  FakeNetwork network;
  network.FailNext(25);
  auto distributor = Make(&network);
  distributor->Start();
  distributor->Announce(job_, Write(0), /*newest=*/true);
  ASSERT_TRUE(network.AwaitKey(HeadKey()));
  distributor->Stop();
  EXPECT_THAT(network.keys(), SizeIs(4));
  EXPECT_EQ(network.attempts(), 25 + 4);
}

TEST_F(DistributorTest, Withdrawn_IsNoLongerServedNorTriedAgain) {
  FakeNetwork network;
  network.FailNext(1'000'000'000);
  auto distributor = Make(&network);
  distributor->Start();
  const v1::ModelManifest base = Write(0);
  const v1::ModelManifest next = Write(1, &base);
  distributor->Serve(next);
  distributor->Announce(job_, next, /*newest=*/true);
  ASSERT_TRUE(network.AwaitAttempts(3));
  ASSERT_OK_AND_ASSIGN(const auto version, SignedVersionOf(next));
  distributor->WithdrawDelta(next);
  EXPECT_EQ(board_.Find(RootOf(version.deltas(0).content())), nullptr);
  EXPECT_NE(board_.Find(RootOf(version.content())), nullptr);
  distributor->Withdraw(next);
  EXPECT_THAT(board_.roots(), IsEmpty());
  // An attempt may have been under way; after another version's no more come.
  network.FailNext(0);
  distributor->Serve(base);
  distributor->Announce(job_, base, /*newest=*/true);
  ASSERT_TRUE(network.AwaitKey(HeadKey()));
  distributor->Stop();
  EXPECT_THAT(network.provided(),
              ElementsAre(*Digest::FromBytes(base.digest())));
}

// A version whose records are being stored again when another takes its place
// in the schedule.
TEST_F(DistributorTest, GivenUpByTheScheduleWhileStored_IsProvidedStill) {
  FakeNetwork network;
  Distributor::Options options;
  options.schedule.max_versions = 1;
  options.schedule.first_refresh = absl::ZeroDuration();
  options.pause = absl::ZeroDuration();
  Distributor distributor(options, &store_, &board_, &network, &signer_.node(),
                          &clock_);
  const v1::ModelManifest old = Write(0);
  distributor.Serve(old);
  distributor.Announce(job_, old, /*newest=*/true);
  distributor.Start();
  ASSERT_TRUE(network.AwaitKey(HeadKey()));  // stored once, and again and again
  const dht::Key again = dht::ImmutableKey(old.signed_manifest());
  network.Hold(again);
  ASSERT_TRUE(network.AwaitHeld());
  const v1::ModelManifest next = Write(1, nullptr, "parent");
  distributor.Serve(next);
  distributor.Announce(job_, next, /*newest=*/true);
  network.Hold(std::nullopt);
  ASSERT_TRUE(network.AwaitKey(
      dht::MutableKey("test", "server", dht::VersionName("job", 1))));
  distributor.Stop();
  EXPECT_NE(board_.Find(RootOf(SignedVersionOf(old)->content())), nullptr);
  EXPECT_THAT(network.provided(), ::testing::UnorderedElementsAre(
                                      *Digest::FromBytes(old.digest()),
                                      *Digest::FromBytes(next.digest())));
}

TEST_F(DistributorTest, WithdrawnWhileStored_IsProvidedNoMore) {
  FakeNetwork network;
  auto distributor = Make(&network);
  const v1::ModelManifest manifest = Write(0);
  network.Hold(dht::ImmutableKey(manifest.signed_manifest()));
  distributor->Serve(manifest);
  distributor->Announce(job_, manifest, /*newest=*/true);
  distributor->Start();
  ASSERT_TRUE(network.AwaitHeld());
  // As if both had come between the look at what is served and what is told.
  distributor->Withdraw(manifest);
  network.Provide(*Digest::FromBytes(manifest.digest()));
  network.Hold(std::nullopt);
  ASSERT_TRUE(network.AwaitKey(HeadKey()));
  distributor->Stop();
  EXPECT_THAT(network.provided(), IsEmpty());
}

TEST_F(DistributorTest, HashesOverTheirBound_TheLowestVersionsGiveWay) {
  FakeNetwork network;
  Distributor::Options options;
  // Each has 13 leaves.
  options.max_hash_bytes = 2 * 13 * 32;
  Distributor distributor(options, &store_, &board_, &network, &signer_.node(),
                          &clock_);
  std::vector<v1::ModelManifest> manifests;
  for (int64_t version = 0; version < 3; ++version) {
    manifests.push_back(Write(version, nullptr, version == 0 ? "" : "parent"));
    distributor.Serve(manifests.back());
    distributor.Announce(job_, manifests.back(), /*newest=*/true);
  }
  EXPECT_THAT(board_.roots(), SizeIs(2));
  ASSERT_OK_AND_ASSIGN(const auto lowest, SignedVersionOf(manifests[0]));
  EXPECT_EQ(board_.Find(RootOf(lowest.content())), nullptr);
  // It is known all the same, and nobody is sent here for it.
  distributor.Start();
  for (int64_t version = 0; version < 3; ++version) {
    ASSERT_TRUE(network.AwaitKey(
        dht::MutableKey("test", "server", dht::VersionName("job", version))));
  }
  distributor.Stop();
  EXPECT_THAT(network.provided(),
              ::testing::UnorderedElementsAre(
                  *Digest::FromBytes(manifests[1].digest()),
                  *Digest::FromBytes(manifests[2].digest())));
}

TEST_F(DistributorTest, HashesOverTheirBound_EachJobsNewestStays) {
  Distributor::Options options;
  options.max_hash_bytes = 2 * 13 * 32;
  Distributor distributor(options, &store_, &board_, nullptr, &signer_.node(),
                          &clock_);
  const v1::ModelManifest old = Write(7, nullptr, "parent");
  const v1::ModelManifest next = Write(8, nullptr, "parent");
  // Another job begins, and is the lowest of all.
  const v1::ModelManifest other = Write(0, nullptr, "", "other");
  for (const auto& manifest : {old, next, other}) distributor.Serve(manifest);
  const auto served = [&](const v1::ModelManifest& manifest) {
    return board_.Find(RootOf(SignedVersionOf(manifest)->content())) != nullptr;
  };
  EXPECT_FALSE(served(old));
  EXPECT_TRUE(served(next));
  EXPECT_TRUE(served(other));
  // Where all are some job's newest, the bound gives way.
  const v1::ModelManifest third = Write(0, nullptr, "", "third");
  distributor.Serve(third);
  EXPECT_TRUE(served(next) && served(other) && served(third));
}

TEST_F(DistributorTest, VersionsOverTheirBound_TheLowestGiveWay) {
  Distributor::Options options;
  options.max_served = 2;
  Distributor distributor(options, &store_, &board_, nullptr, &signer_.node(),
                          &clock_);
  std::vector<Digest> roots;
  for (int64_t version = 1; version <= 4; ++version) {
    const v1::ModelManifest manifest = Write(version, nullptr, "parent");
    distributor.Serve(manifest);
    roots.push_back(RootOf(SignedVersionOf(manifest)->content()));
  }
  EXPECT_THAT(board_.roots(),
              ::testing::UnorderedElementsAre(roots[2], roots[3]));
}

TEST_F(DistributorTest, WithoutADht_ItServesAllTheSame) {
  auto distributor = Make(nullptr);
  distributor->Start();
  const v1::ModelManifest manifest = Write(0);
  distributor->Serve(manifest);
  distributor->Announce(job_, manifest, /*newest=*/true);
  EXPECT_THAT(board_.roots(), SizeIs(1));
  EXPECT_FALSE(distributor->Self().has_value());
  distributor->Withdraw(manifest);
  EXPECT_THAT(board_.roots(), IsEmpty());
}

TEST_F(DistributorTest, DamagedOrUnsigned_IsNotServed) {
  auto distributor = Make(nullptr);
  v1::ModelManifest manifest = Write(0);
  ASSERT_OK(WriteFileAtomically(&env_, store_.PathOf("job", 0), "another"));
  distributor->Serve(manifest);
  manifest.clear_signed_manifest();
  distributor->Serve(manifest);
  EXPECT_THAT(board_.roots(), IsEmpty());
}

TEST_F(DistributorTest, NodeThatHasGone_IsToldToWhoeverServes) {
  auto distributor = Make(nullptr);
  std::vector<dht::Key> gone;
  board_.ListenToGone([&](const dht::Key& node) { gone.push_back(node); });
  distributor->OnGone(Sha256Of("w"));
  EXPECT_THAT(gone, ElementsAre(Sha256Of("w")));
}

TEST_F(DistributorTest, OthersOf_AreSomeOfTheJobsFetchers_NotAlwaysTheSame) {
  auto distributor = Make(nullptr);
  const v1::ModelManifest manifest = Write(0);
  distributor->Serve(manifest);
  ASSERT_OK_AND_ASSIGN(const auto version, SignedVersionOf(manifest));
  const Digest root = RootOf(version.content());
  EXPECT_THAT(board_.OthersOf(root), IsEmpty());
  std::vector<dht::Contact> peers;
  for (int i = 0; i < 50; ++i) {
    peers.push_back({.id = Sha256Of(absl::StrCat(i)),
                     .address = absl::StrCat("w", i, ":1"),
                     .site = ""});
  }
  distributor->SetPeers("job", peers);
  std::set<std::string> named;
  for (int i = 0; i < 100; ++i) {
    const auto others = board_.OthersOf(root);
    ASSERT_THAT(others, SizeIs(20));
    for (const auto& other : others) named.insert(other.address);
  }
  // One of 50 is missed by a hundred draws of 20 with probability 0.6^100.
  EXPECT_THAT(named, SizeIs(50));
  EXPECT_THAT(board_.OthersOf(Sha256Of("unknown")), IsEmpty());
  distributor.reset();
  EXPECT_THAT(board_.OthersOf(root), IsEmpty());
}

}  // namespace
}  // namespace koinon::coordinator
