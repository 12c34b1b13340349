#include "dht/swarm/version_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"
#include "dht/swarm/delta.h"
#include "dht/swarm/testing_content.h"
#include "dht/swarm/testing_host.h"
#include "proto/dht.pb.h"

namespace koinon::dht {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::StatusIs;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

constexpr char kDir[] = "/cache";
constexpr int64_t kPiece = 64 << 10;

// A published version, as the coordinator has it.
struct Version {
  TestContent test;
  std::optional<TestContent> delta;
  VersionCache::Wanted wanted;

  Digest digest() const { return *Digest::FromBytes(wanted.manifest.digest()); }
  Digest root() const { return *Digest::FromBytes(test.content().root()); }
};

class VersionCacheTest : public testing::Test {
 protected:
  VersionCacheTest()
      : faulty_(&env_),
        origin_(OriginOptions()),
        peer_(TestHost::Options{.name = "peer"}),
        host_(TestHost::Options{.name = "worker"}) {}

  static TestHost::Options OriginOptions() {
    TestHost::Options options{.name = "origin"};
    options.seeder.is_origin = true;
    return options;
  }

  void OpenCache(VersionCache::Options options = {}) {
    cache_.reset();
    auto cache = VersionCache::Open(&faulty_, kDir, options, &host_);
    ASSERT_THAT(cache, IsOk());
    cache_ = *std::move(cache);
  }

  std::shared_ptr<ContentFile> Serve(const TestContent& test,
                                     const Digest& digest) {
    const std::string path = absl::StrCat("/", test.tree.leaves[0].ToHex());
    EXPECT_THAT(WriteContent(&origin_env_, path, test), IsOk());
    auto file = ContentFile::OpenWhole(&origin_env_, path, test.content(),
                                       test.tree.leaves);
    EXPECT_THAT(file, IsOk());
    origin_.board()->Add(*file, digest);
    return *std::move(file);
  }

  // A peer serves its first `pieces`, and nobody the others.
  void ServePart(const TestContent& test, uint32_t pieces,
                 const Digest& digest) {
    auto file =
        ContentFile::Resume(&origin_env_, "/a part of it", test.content());
    ASSERT_THAT(file, IsOk());
    ASSERT_THAT((*file)->SetPieceLayer(test.tree.pieces), IsOk());
    for (uint32_t piece = 0; piece < pieces; ++piece) {
      auto incoming = (*file)->Begin(piece, test.LeavesOf(piece));
      ASSERT_THAT(incoming, IsOk());
      ASSERT_THAT((*incoming)->Append(test.Piece(piece)), IsOk());
      ASSERT_THAT((*incoming)->Finish(), IsOk());
    }
    origin_.board()->Remove(*Digest::FromBytes(test.content().root()));
    peer_.board()->Add(*file, digest);
  }

  // Version `number` of job "mnist", served by the origin; with a delta from
  // `parent`, if there is one: of a quarter of the bytes, if `much` changes.
  Version Publish(int64_t number, const Version* parent = nullptr,
                  bool much = false) {
    Version version;
    std::vector<uint8_t> bytes =
        RandomContent(parent == nullptr || much ? number : 0, 40 * kPiece + 100,
                      kPiece)
            .bytes;
    if (parent != nullptr) {
      const std::vector<uint8_t>& old = parent->test.bytes;
      for (size_t i = 0; i < bytes.size(); ++i) {
        if (!much) bytes[i] = old[i] ^ (i % 1000 == 0 ? number : 0);
        if (much && i % 4 != 0) bytes[i] = old[i];
      }
    }
    version.test = TreeOver(std::move(bytes), kPiece);
    v1::VersionManifest& manifest = version.wanted.manifest;
    manifest.set_job(job_);
    manifest.set_version(number);
    manifest.set_created_ms(number);
    manifest.set_digest(
        Sha256Of(absl::string_view(
                     reinterpret_cast<const char*>(version.test.bytes.data()),
                     version.test.bytes.size()))
            .ToBytes());
    *manifest.mutable_content() = version.test.content();
    if (parent != nullptr) AddDelta(*parent, &version);
    v1::Signed envelope;
    manifest.SerializeToString(envelope.mutable_body());
    envelope.SerializeToString(&version.wanted.signed_manifest);
    version.wanted.origin = origin_.self();
    Serve(version.test, version.digest());
    return version;
  }

  void AddDelta(const Version& parent, Version* version) {
    MemoryEnv env;
    ASSERT_THAT(WriteContent(&env, "/from", parent.test), IsOk());
    ASSERT_THAT(WriteContent(&env, "/to", version->test), IsOk());
    const auto from = env.Open("/from", Env::OpenMode::kRead);
    const auto to = env.Open("/to", Env::OpenMode::kRead);
    auto out = env.Open("/delta", Env::OpenMode::kCreate);
    const auto size = WriteDelta(**from, **to, out->get(), 1 << 30);
    ASSERT_THAT(size, IsOk());
    std::vector<uint8_t> bytes(**size);
    ASSERT_THAT((*out)->ReadAt(0, bytes.size(), bytes.data()), IsOk());
    version->delta = TreeOver(std::move(bytes), kPiece);
    v1::Delta* delta = version->wanted.manifest.add_deltas();
    delta->set_from_digest(parent.digest().ToBytes());
    *delta->mutable_content() = version->delta->content();
    Serve(*version->delta, version->digest());
  }

  VersionCache::Fetched Fetch(const Version& version) {
    auto fetched = cache_->Fetch(version.wanted, [] { return false; });
    EXPECT_THAT(fetched, IsOk());
    ExpectIs(fetched->lease->path(), version);
    return *std::move(fetched);
  }

  void ExpectIs(const std::string& path, const Version& version) {
    const auto bytes = ReadFile(&env_, path, 1 << 30);
    ASSERT_THAT(bytes, IsOk());
    EXPECT_EQ(Sha256Of(*bytes), version.digest());
  }

  bool IsHere(const Version& version) {
    return env_.Exists(
        absl::StrCat(kDir, "/", version.digest().ToHex(), ".safetensors"));
  }

  // About twenty of its pieces.
  void FetchHalf(const Version& version) {
    const int64_t before = host_.board()->traffic().from_origin();
    EXPECT_THAT(cache_->Fetch(version.wanted,
                              [&] {
                                return host_.board()->traffic().from_origin() >
                                       before + 20 * kPiece;
                              }),
                StatusIs(absl::StatusCode::kCancelled));
  }

  bool IsPartlyHere(const Version& version) {
    return env_.Exists(
        absl::StrCat(kDir, "/", version.digest().ToHex(), ".partial"));
  }

  std::string job_ = "mnist";  // of what is published
  MemoryEnv env_;
  MemoryEnv origin_env_;
  FaultInjectingEnv faulty_;
  TestHost origin_;
  TestHost peer_;
  TestHost host_;
  std::unique_ptr<VersionCache> cache_;
};

TEST_F(VersionCacheTest, Version_IsFetchedOnceAndServedAndAnnounced) {
  OpenCache();
  const Version version = Publish(1);
  EXPECT_EQ(cache_->Find(version.digest()), nullptr);
  const auto first = Fetch(version);
  EXPECT_EQ(first.traffic.from_origin(), version.test.bytes.size());
  EXPECT_FALSE(first.by_delta);
  const auto second = Fetch(version);
  EXPECT_EQ(second.traffic.from_origin(), 0);
  EXPECT_NE(cache_->Find(version.digest()), nullptr);
  ASSERT_THAT(cache_->List(), SizeIs(1));
  EXPECT_EQ(cache_->List()[0].version(), 1);
  const auto served = host_.board()->Find(version.root());
  ASSERT_NE(served, nullptr);
  EXPECT_TRUE(served->complete());
  EXPECT_TRUE(host_.provides(version.digest()));
}

TEST_F(VersionCacheTest, SameVersion_WantedByTwo_IsFetchedOnce) {
  OpenCache();
  const Version version = Publish(1);
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] { Fetch(version); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(host_.board()->traffic().from_origin(), version.test.bytes.size());
}

TEST_F(VersionCacheTest, Restart_KeepsWholeVersionsAndServesThemAgain) {
  OpenCache();
  const Version version = Publish(1);
  Fetch(version);
  OpenCache();
  ASSERT_THAT(cache_->List(), SizeIs(1));
  auto lease = cache_->Find(version.digest());
  ASSERT_NE(lease, nullptr);
  ExpectIs(lease->path(), version);
  lease.reset();
  EXPECT_NE(host_.board()->Find(version.root()), nullptr);
  EXPECT_TRUE(host_.provides(version.digest()));
  cache_.reset();
  EXPECT_EQ(host_.board()->Find(version.root()), nullptr);
  EXPECT_FALSE(host_.provides(version.digest()));
}

TEST_F(VersionCacheTest, DamagedVersion_IsRemovedAndFetchedAnew) {
  OpenCache();
  const Version version = Publish(1);
  Fetch(version);
  cache_.reset();
  auto file = env_.Open(
      absl::StrCat(kDir, "/", version.digest().ToHex(), ".safetensors"),
      Env::OpenMode::kReadWrite);
  ASSERT_THAT(file, IsOk());
  uint8_t byte = version.test.bytes[12345] ^ 1;
  ASSERT_THAT((*file)->WriteAt(12345, &byte, 1), IsOk());
  OpenCache();
  EXPECT_EQ(cache_->Find(version.digest()), nullptr);
  EXPECT_FALSE(IsHere(version));
  const auto fetched = Fetch(version);
  EXPECT_EQ(fetched.traffic.from_origin(), version.test.bytes.size());
}

TEST_F(VersionCacheTest, VersionOfWhichAPieceIsLost_IsFetchedAnewOnceItIsFree) {
  OpenCache();
  const Version version = Publish(1);
  auto in_use = Fetch(version).lease;
  ASSERT_THAT(DamageFile(&env_, in_use->path(), 12345), IsOk());
  EXPECT_TRUE(host_.board()->Find(version.root())->Lose(0));
  EXPECT_NE(cache_->Find(version.digest()), nullptr);
  in_use.reset();
  EXPECT_EQ(cache_->Find(version.digest()), nullptr);
  EXPECT_FALSE(IsHere(version));
  EXPECT_EQ(host_.board()->Find(version.root()), nullptr);
  EXPECT_FALSE(host_.provides(version.digest()));
  const auto fetched = Fetch(version);
  EXPECT_EQ(fetched.traffic.from_origin(), version.test.bytes.size());
  EXPECT_TRUE(host_.board()->Find(version.root())->complete());
}

TEST_F(VersionCacheTest, PieceThatIsNotLostAfterAll_IsServedAgain) {
  OpenCache();
  const Version version = Publish(1);
  Fetch(version);
  EXPECT_TRUE(host_.board()->Find(version.root())->Lose(0));
  EXPECT_NE(cache_->Find(version.digest()), nullptr);
  EXPECT_TRUE(host_.board()->Find(version.root())->complete());
}

TEST_F(VersionCacheTest, WantOfDescriptors_RemovesNothing) {
  using Operation = FaultInjectingEnv::Operation;
  const auto none = absl::ResourceExhaustedError("too many open files");
  OpenCache();
  const Version version = Publish(1);
  Fetch(version);
  cache_.reset();
  faulty_.FailAlways(Operation::kOpen, none);
  EXPECT_THAT(VersionCache::Open(&faulty_, kDir, {}, &host_),
              StatusIs(absl::StatusCode::kResourceExhausted));
  faulty_.StopFailing();
  EXPECT_TRUE(IsHere(version));
  // After the manifest's and for the size: the one to check it.
  faulty_.FailAt(Operation::kOpen, 3, none);
  OpenCache();
  // One attempt fails: the background's or this one's.
  EXPECT_TRUE(cache_->Find(version.digest()) != nullptr ||
              cache_->Find(version.digest()) != nullptr);
  EXPECT_TRUE(IsHere(version));
}

TEST_F(VersionCacheTest, VersionWithoutManifest_IsRemoved) {
  OpenCache();
  const Version version = Publish(1);
  Fetch(version);
  cache_.reset();
  ASSERT_THAT(env_.Remove(absl::StrCat(kDir, "/", version.digest().ToHex(),
                                       ".manifest")),
              IsOk());
  OpenCache();
  EXPECT_THAT(cache_->List(), IsEmpty());
  EXPECT_THAT(*env_.List(kDir), IsEmpty());
}

TEST_F(VersionCacheTest, FetchThatWasCancelled_GoesOnAfterARestart) {
  OpenCache();
  const Version version = Publish(1);
  const auto halfway = [&] {
    return host_.board()->traffic().from_origin() > 20 * kPiece;
  };
  EXPECT_THAT(cache_->Fetch(version.wanted, halfway),
              StatusIs(absl::StatusCode::kCancelled));
  EXPECT_EQ(host_.board()->Find(version.root()), nullptr);
  EXPECT_FALSE(host_.provides(version.digest()));
  OpenCache();
  EXPECT_THAT(cache_->List(), IsEmpty());
  const auto fetched = Fetch(version);
  EXPECT_LE(fetched.traffic.from_origin(), 25 * kPiece);
}

TEST_F(VersionCacheTest, FetchThatWasCancelled_IsKeptForWantOfDescriptors) {
  OpenCache();
  const Version version = Publish(1);
  const auto halfway = [&] {
    return host_.board()->traffic().from_origin() > 20 * kPiece;
  };
  EXPECT_THAT(cache_->Fetch(version.wanted, halfway),
              StatusIs(absl::StatusCode::kCancelled));
  cache_.reset();
  faulty_.FailAt(FaultInjectingEnv::Operation::kOpen, 1,  // its manifest's
                 absl::ResourceExhaustedError("too many open files"));
  EXPECT_THAT(VersionCache::Open(&faulty_, kDir, {}, &host_),
              StatusIs(absl::StatusCode::kResourceExhausted));
  OpenCache();
  const auto fetched = Fetch(version);
  EXPECT_LE(fetched.traffic.from_origin(), 25 * kPiece);
}

TEST_F(VersionCacheTest, ManifestThatIsTooLong_IsNone) {
  OpenCache();
  const Version version = Publish(1);
  Fetch(version);
  cache_.reset();
  ASSERT_THAT(
      WriteFileAtomically(
          &env_, absl::StrCat(kDir, "/", version.digest().ToHex(), ".manifest"),
          std::string(100'000, 'x')),
      IsOk());
  OpenCache();
  EXPECT_THAT(cache_->List(), IsEmpty());
  EXPECT_THAT(*env_.List(kDir), IsEmpty());
}

TEST_F(VersionCacheTest, PartialOfAVersionThatIsNotWantedAnyMore_IsRemoved) {
  OpenCache();
  const Version old = Publish(1);
  EXPECT_THAT(cache_->Fetch(old.wanted, [] { return true; }),
              StatusIs(absl::StatusCode::kCancelled));
  const Version current = Publish(2);
  Fetch(current);
  EXPECT_THAT(*env_.List(kDir), Each(Not(HasSubstr(old.digest().ToHex()))));
}

TEST_F(VersionCacheTest, PartialOfAnotherJob_IsTakenUpAgain) {
  OpenCache();
  const Version first = Publish(1);
  job_ = "cifar";
  const Version other = Publish(2), next = Publish(3);
  FetchHalf(first);
  Fetch(other);
  EXPECT_TRUE(IsPartlyHere(first));
  OpenCache();
  FetchHalf(next);
  EXPECT_LE(Fetch(first).traffic.from_origin(), 25 * kPiece);
  OpenCache();  // both are taken up
  EXPECT_LE(Fetch(next).traffic.from_origin(), 25 * kPiece);
}

TEST_F(VersionCacheTest, DeltaOfAPartialOfAnotherJob_IsTakenUpAgain) {
  OpenCache();
  const Version v1 = Publish(1);
  const Version v2 = Publish(2, &v1);
  job_ = "cifar";
  const Version other = Publish(3);
  Fetch(v1);
  EXPECT_THAT(cache_->Fetch(v2.wanted, [] { return true; }),
              StatusIs(absl::StatusCode::kCancelled));
  const std::string path = absl::StrCat(
      kDir, "/", Digest::FromBytes(v2.delta->content().root())->ToHex(),
      ".delta.partial");
  ASSERT_TRUE(env_.Exists(path));
  Fetch(other);
  EXPECT_TRUE(env_.Exists(path));
  EXPECT_TRUE(Fetch(v2).by_delta);
  EXPECT_FALSE(env_.Exists(path));
}

TEST_F(VersionCacheTest, Partials_AreBounded_TheOldestGoFirst) {
  std::vector<Version> versions;
  for (int i = 1; i <= 4; ++i) {
    job_ = absl::StrCat("job", i);
    versions.push_back(Publish(i));
  }
  const auto fetch_all = [&](const VersionCache::Options& options) {
    OpenCache(options);
    for (int i = 0; i < 3; ++i) FetchHalf(versions[i]);
    Fetch(versions[3]);
    EXPECT_FALSE(IsPartlyHere(versions[0]));
    EXPECT_FALSE(env_.Exists(
        absl::StrCat(kDir, "/", versions[0].digest().ToHex(), ".manifest")));
    EXPECT_TRUE(IsPartlyHere(versions[1]));
    EXPECT_TRUE(IsPartlyHere(versions[2]));
    cache_.reset();
    const auto names = env_.List(kDir);
    for (const std::string& name : *names) {
      ASSERT_THAT(env_.Remove(absl::StrCat(kDir, "/", name)), IsOk());
    }
  };
  fetch_all({.max_bytes = 3 * versions[0].test.bytes.size() + 1000});
  fetch_all({.max_models = 2});
}

TEST_F(VersionCacheTest, PartialOfAnotherJob_GivesWayOnAFullDisk) {
  using Operation = FaultInjectingEnv::Operation;
  const auto full = absl::ResourceExhaustedError("no space left");
  OpenCache();
  const Version first = Publish(1);
  job_ = "cifar";
  const Version other = Publish(2);
  FetchHalf(first);
  faulty_.FailAlways(Operation::kOpen, full);  // for want of descriptors
  EXPECT_THAT(cache_->Fetch(other.wanted, [] { return false; }),
              StatusIs(absl::StatusCode::kResourceExhausted));
  faulty_.StopFailing();
  EXPECT_TRUE(IsPartlyHere(first));
  faulty_.FailAt(Operation::kResize, 1, full);
  Fetch(other);
  EXPECT_FALSE(IsPartlyHere(first));
}

TEST_F(VersionCacheTest, Bounds_EvictWhatWasUsedLongestAgo) {
  OpenCache({.max_models = 1, .retention = {.newest = 1, .every = 0}});
  const Version v1 = Publish(1), v2 = Publish(2), v3 = Publish(3);
  Fetch(v1);
  Fetch(v2);
  EXPECT_TRUE(IsHere(v1));  // one beside the newest
  cache_->Find(v1.digest());
  Fetch(v3);
  EXPECT_TRUE(IsHere(v1));
  EXPECT_FALSE(IsHere(v2));
  EXPECT_TRUE(IsHere(v3));
  EXPECT_EQ(host_.board()->Find(v2.root()), nullptr);
  EXPECT_FALSE(host_.provides(v2.digest()));
}

TEST_F(VersionCacheTest, VersionsInUsePinnedOrKeptByThePolicy_AreNotEvicted) {
  OpenCache({.max_models = 0,
             .retention = {.newest = 1, .every = 2},
             .pinned = {{"mnist", 1}}});
  const Version v1 = Publish(1), v2 = Publish(2), v3 = Publish(3),
                v5 = Publish(5), v7 = Publish(7);
  Fetch(v1);
  Fetch(v2);
  const auto in_use = Fetch(v3).lease;
  Fetch(v5);
  Fetch(v7);
  EXPECT_TRUE(IsHere(v1));  // pinned
  EXPECT_TRUE(IsHere(v2));  // every second
  EXPECT_TRUE(IsHere(v3));  // in use
  EXPECT_FALSE(IsHere(v5));
  EXPECT_TRUE(IsHere(v7));  // newest
}

// Where not all can be announced.
TEST_F(VersionCacheTest, Importance_OfWhatIsKeptForGoodAndThenOfTheNewest) {
  OpenCache({.max_models = 4,
             .retention = {.newest = 4, .every = 2},
             .pinned = {{"mnist", 1}}});
  const Version v1 = Publish(1), v2 = Publish(2), v3 = Publish(3),
                v5 = Publish(5);
  for (const Version* version : {&v1, &v2, &v3, &v5}) Fetch(*version);
  EXPECT_EQ(host_.importance(v1.digest()), INT64_MAX);
  EXPECT_EQ(host_.importance(v2.digest()), INT64_MAX);
  EXPECT_EQ(host_.importance(v3.digest()), v3.wanted.manifest.created_ms());
  EXPECT_EQ(host_.importance(v5.digest()), v5.wanted.manifest.created_ms());
}

TEST_F(VersionCacheTest, VersionInUse_GoesOnceItIsNot) {
  OpenCache({.max_models = 0, .retention = {.newest = 1, .every = 0}});
  const Version v1 = Publish(1), v2 = Publish(2);
  auto in_use = Fetch(v1);
  Fetch(v2);
  EXPECT_TRUE(IsHere(v1));
  in_use.lease.reset();
  EXPECT_FALSE(IsHere(v1));
}

TEST_F(VersionCacheTest, BoundOfBytes_OutweighsThePolicyButNotPins) {
  const Version v1 = Publish(1), v2 = Publish(2), v3 = Publish(3);
  OpenCache({.max_bytes = 2 * v1.test.bytes.size() + 1000,
             .retention = {.newest = 0, .every = 0},  // all
             .pinned = {{"mnist", 1}}});
  Fetch(v1);
  Fetch(v2);
  Fetch(v3);
  EXPECT_TRUE(IsHere(v1));
  EXPECT_FALSE(IsHere(v2));
  EXPECT_TRUE(IsHere(v3));
}

TEST_F(VersionCacheTest, VersionOverTheBound_IsRefusedByName) {
  const Version version = Publish(1);
  OpenCache({.max_model_bytes = 1000});
  EXPECT_THAT(cache_->Fetch(version.wanted, [] { return false; }),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("max_model_bytes")));
  EXPECT_THAT(*env_.List(kDir), IsEmpty());
}

TEST_F(VersionCacheTest, FullDisk_IsSaidAndTheNextFetchGoesOn) {
  OpenCache();
  const Version version = Publish(1);
  faulty_.FillDisk();
  EXPECT_THAT(cache_->Fetch(version.wanted, [] { return false; }),
              StatusIs(absl::StatusCode::kResourceExhausted));
  faulty_.StopFailing();
  Fetch(version);
}

TEST_F(VersionCacheTest, Delta_ToAVersionThatIsHere_IsFetchedInstead) {
  OpenCache();
  const Version v1 = Publish(1);
  const Version v2 = Publish(2, &v1);
  Fetch(v1);
  auto fetched = Fetch(v2);
  EXPECT_TRUE(fetched.by_delta);
  EXPECT_EQ(fetched.traffic.from_origin(), v2.delta->bytes.size());
  EXPECT_LT(v2.delta->bytes.size(), v2.test.bytes.size() / 2);
  EXPECT_EQ(cache_->counts().deltas_applied, 1);
  // Both are served now, and after a restart; until a newer version is here.
  const Digest root = *Digest::FromBytes(v2.delta->content().root());
  EXPECT_NE(host_.board()->Find(root), nullptr);
  EXPECT_NE(host_.board()->Find(v2.root()), nullptr);
  fetched.lease.reset();
  OpenCache();
  ASSERT_NE(cache_->Find(v2.digest()), nullptr);
  EXPECT_NE(host_.board()->Find(root), nullptr);
  Fetch(Publish(3));
  EXPECT_EQ(host_.board()->Find(root), nullptr);
  EXPECT_THAT(*env_.List(kDir), Each(Not(HasSubstr(".delta"))));
}

TEST_F(VersionCacheTest, DeltaThatWasCancelled_GoesOnAfterARestart) {
  OpenCache();
  const Version v1 = Publish(1);
  Version v2 = Publish(2, &v1, /*much=*/true);
  Fetch(v1);
  const uint32_t pieces = v2.delta->map().pieces();
  ASSERT_GT(pieces, 8);
  ServePart(*v2.delta, pieces - 3, v2.digest());
  v2.wanted.peers.push_back(peer_.self());
  const auto part_is_here = [&] {
    return host_.board()->traffic().from_peers() == (pieces - 3) * kPiece;
  };
  EXPECT_THAT(cache_->Fetch(v2.wanted, part_is_here),
              StatusIs(absl::StatusCode::kCancelled));
  OpenCache();
  Serve(*v2.delta, v2.digest());
  const auto fetched = Fetch(v2);
  EXPECT_TRUE(fetched.by_delta);
  EXPECT_EQ(fetched.traffic.from_peers() + fetched.traffic.from_origin() -
                fetched.traffic.wasted(),
            v2.delta->bytes.size() - (pieces - 3) * kPiece);
}

// As of a worker that was killed while it applied it.
TEST_F(VersionCacheTest, DeltaThatIsWhole_IsKeptForItsVersionAndServed) {
  OpenCache();
  const Version v1 = Publish(1);
  const Version v2 = Publish(2, &v1);
  Fetch(v1);
  EXPECT_THAT(cache_->Fetch(v2.wanted, [] { return true; }),
              StatusIs(absl::StatusCode::kCancelled));
  cache_.reset();
  const Digest root = *Digest::FromBytes(v2.delta->content().root());
  const std::string path = absl::StrCat(kDir, "/", root.ToHex(), ".delta");
  ASSERT_THAT(WriteContent(&env_, path, *v2.delta), IsOk());
  ASSERT_THAT(
      ContentFile::WriteLeaves(&env_, path + ".leaves", v2.delta->tree.leaves),
      IsOk());
  OpenCache();
  EXPECT_NE(cache_->Find(v1.digest()), nullptr);
  const auto fetched = Fetch(v2);
  EXPECT_TRUE(fetched.by_delta);
  EXPECT_EQ(fetched.traffic.from_origin(), 0);
  EXPECT_NE(host_.board()->Find(root), nullptr);
}

TEST_F(VersionCacheTest, DeltaOfAVersionThatIsNotWantedAnyMore_IsRemoved) {
  OpenCache();
  const Version v1 = Publish(1);
  const Version v2 = Publish(2, &v1);
  Fetch(v1);
  EXPECT_THAT(cache_->Fetch(v2.wanted, [] { return true; }),
              StatusIs(absl::StatusCode::kCancelled));
  const Digest root = *Digest::FromBytes(v2.delta->content().root());
  const std::string path = absl::StrCat(kDir, "/", root.ToHex(), ".delta");
  ASSERT_THAT(WriteContent(&env_, path, *v2.delta), IsOk());
  const std::string nobodys =
      absl::StrCat(kDir, "/", v1.root().ToHex(), ".delta.partial");
  ASSERT_THAT(WriteContent(&env_, nobodys, *v2.delta), IsOk());
  OpenCache();
  EXPECT_FALSE(env_.Exists(nobodys));
  EXPECT_TRUE(env_.Exists(path));
  EXPECT_TRUE(env_.Exists(path + ".partial"));
  Fetch(Publish(3));
  EXPECT_THAT(*env_.List(kDir), Each(Not(HasSubstr(".delta"))));
}

TEST_F(VersionCacheTest, DeltaThatIsDamaged_IsNotServedAndGoes) {
  OpenCache();
  const Version v1 = Publish(1);
  const Version v2 = Publish(2, &v1);
  Fetch(v1);
  Fetch(v2).lease.reset();
  cache_.reset();
  const Digest root = *Digest::FromBytes(v2.delta->content().root());
  const std::string path = absl::StrCat(kDir, "/", root.ToHex(), ".delta");
  auto file = env_.Open(path, Env::OpenMode::kReadWrite);
  ASSERT_THAT(file, IsOk());
  const uint8_t byte = v2.delta->bytes[100] ^ 1;
  ASSERT_THAT((*file)->WriteAt(100, &byte, 1), IsOk());
  OpenCache();
  EXPECT_NE(cache_->Find(v2.digest()), nullptr);
  EXPECT_EQ(host_.board()->Find(root), nullptr);
  EXPECT_THAT(*env_.List(kDir), Each(Not(HasSubstr(".delta"))));
}

TEST_F(VersionCacheTest, Delta_FromAVersionThatIsNotHere_IsNotUsed) {
  OpenCache();
  const Version v1 = Publish(1);
  const Version v2 = Publish(2, &v1);
  EXPECT_FALSE(Fetch(v2).by_delta);
  EXPECT_EQ(cache_->counts().deltas_failed, 0);
}

TEST_F(VersionCacheTest, Deltas_ThatAreTurnedOff_AreNotUsed) {
  OpenCache({.use_deltas = false});
  const Version v1 = Publish(1);
  const Version v2 = Publish(2, &v1);
  Fetch(v1);
  EXPECT_FALSE(Fetch(v2).by_delta);
}

TEST_F(VersionCacheTest, Delta_ThatNobodyHas_GivesWayToTheWhole) {
  OpenCache();
  const Version v1 = Publish(1);
  const Version v2 = Publish(2, &v1);
  Fetch(v1);
  origin_.board()->Remove(*Digest::FromBytes(v2.delta->content().root()));
  const auto fetched = Fetch(v2);
  EXPECT_FALSE(fetched.by_delta);
  EXPECT_EQ(fetched.traffic.from_origin(), v2.test.bytes.size());
  EXPECT_EQ(cache_->counts().deltas_failed, 1);
}

// Signed by a coordinator that is mistaken: the whole version's root decides.
TEST_F(VersionCacheTest, Delta_ThatMakesAnother_GivesWayToTheWhole) {
  OpenCache();
  const Version v1 = Publish(1);
  const Version other = Publish(9, &v1);
  Version v2 = Publish(2);
  *v2.wanted.manifest.add_deltas() = other.wanted.manifest.deltas(0);
  Fetch(v1);
  const auto fetched = Fetch(v2);
  EXPECT_FALSE(fetched.by_delta);
  EXPECT_EQ(cache_->counts().deltas_failed, 1);
  EXPECT_THAT(*env_.List(kDir), Each(Not(HasSubstr(".delta"))));
  EXPECT_EQ(
      host_.board()->Find(*Digest::FromBytes(other.delta->content().root())),
      nullptr);
}

}  // namespace
}  // namespace koinon::dht
