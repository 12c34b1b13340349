// A process that is killed while it fetches, and one that takes its place: what
// was fetched and synced is not fetched again.
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/env.h"
#include "base/status_macros.h"
#include "base/status_matchers.h"
#include "dht/swarm/delta.h"
#include "dht/swarm/fetcher.h"
#include "dht/swarm/testing_content.h"
#include "dht/swarm/testing_host.h"
#include "dht/swarm/version_cache.h"
#include "proto/dht.pb.h"
#include "tools/cli/process.h"

namespace koinon::testing {
namespace {

using ::absl_testing::IsOk;

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kSize = 256 * kMiB + 4321;
// Patience with a busy machine; nothing waits for it otherwise.
constexpr absl::Duration kPatience = absl::Minutes(2);

std::string FetchedPath(const std::string& dir) { return dir + "/fetched"; }

// The processes that are killed: DIR and the origin's address.
absl::Status RunFetcher(const std::string& dir, const std::string& address) {
  ABSL_ASSIGN_OR_RETURN(const std::string bytes,
                        ReadFile(RealEnv(), dir + "/content", 1 << 20));
  v1::Content content;
  if (!content.ParseFromString(bytes)) return absl::DataLossError("content");
  dht::TestHost host({.name = "fetcher"});
  dht::SwarmFetch::Options options;
  options.content = content;
  ABSL_ASSIGN_OR_RETURN(
      options.file,
      dht::ContentFile::Resume(RealEnv(), FetchedPath(dir), content));
  options.origin =
      dht::Contact{.id = Sha256Of("origin"), .address = address, .site = ""};
  dht::SwarmFetch fetch(&host, options);
  return fetch.Run();
}

absl::Status RunCache(const std::string& dir, const std::string& address) {
  ABSL_ASSIGN_OR_RETURN(const std::string bytes,
                        ReadFile(RealEnv(), dir + "/wanted", 1 << 20));
  dht::VersionCache::Wanted wanted;
  v1::Signed envelope;
  if (!envelope.ParseFromString(bytes) ||
      !wanted.manifest.ParseFromString(envelope.body())) {
    return absl::DataLossError("wanted");
  }
  wanted.signed_manifest = bytes;
  wanted.origin =
      dht::Contact{.id = Sha256Of("origin"), .address = address, .site = ""};
  dht::TestHost host({.name = "worker"});
  ABSL_ASSIGN_OR_RETURN(
      const auto cache,
      dht::VersionCache::Open(RealEnv(), dir + "/cache", {}, &host));
  ABSL_ASSIGN_OR_RETURN(const auto fetched,
                        cache->Fetch(wanted, [] { return false; }));
  if (!fetched.by_delta) return absl::InternalError("it came whole");
  return absl::OkStatus();
}

dht::TestHost::Options OriginOptions() {
  dht::TestHost::Options options{.name = "origin"};
  options.seeder.is_origin = true;
  return options;
}

// `mode`: what main goes by.
std::unique_ptr<cli::ChildProcess> StartChild(const std::string& mode,
                                              const std::string& dir,
                                              const dht::TestHost& origin) {
  auto process = cli::ChildProcess::Start(
      {"/proc/self/exe", mode, dir, origin.self().address}, dir + "/log");
  EXPECT_THAT(process, IsOk());
  return *std::move(process);
}

int64_t SentBy(dht::TestHost& origin) {
  return origin.board()->traffic().to_peers();
}

// Once the origin has sent so much.
void KillAt(int64_t sent, dht::TestHost& origin, cli::ChildProcess* child) {
  for (;;) {
    const auto ended = child->Poll();
    if (SentBy(origin) >= sent) break;
    ASSERT_EQ(ended, std::nullopt) << "it ended before it was killed";
    std::this_thread::yield();
  }
  child->Signal(SIGKILL);
  ASSERT_NE(child->Wait(kPatience), std::nullopt);
}

class SwarmKillTest : public ::testing::TestWithParam<int> {
 protected:
  SwarmKillTest()
      : dir_(absl::StrCat(::testing::TempDir(), "/swarm_kill_", GetParam())),
        test_(dht::RandomContent(5, kSize, dht::PieceSizeFor(kSize))),
        origin_(OriginOptions()) {
    std::filesystem::remove_all(dir_);
    std::filesystem::create_directories(dir_);
    EXPECT_THAT(WriteFileAtomically(RealEnv(), dir_ + "/content",
                                    test_.content().SerializeAsString()),
                IsOk());
    EXPECT_THAT(dht::WriteContent(RealEnv(), dir_ + "/model", test_), IsOk());
    auto file = dht::ContentFile::OpenWhole(RealEnv(), dir_ + "/model",
                                            test_.content(), test_.tree.leaves);
    EXPECT_THAT(file, IsOk());
    origin_.board()->Add(*file, Digest());
  }
  ~SwarmKillTest() override { std::filesystem::remove_all(dir_); }

  const std::string dir_;
  const dht::TestContent test_;
  dht::TestHost origin_;
};

TEST_P(SwarmKillTest, FetcherThatWasKilled_FetchesAtMost64MiBAgain) {
  const auto first = StartChild("fetch", dir_, origin_);
  ASSERT_NO_FATAL_FAILURE(
      KillAt(kSize * GetParam() / 100, origin_, first.get()));
  const auto second = StartChild("fetch", dir_, origin_);
  ASSERT_EQ(second->Wait(kPatience), "exit code 0");
  // What left the origin counts, whether or not it arrived.
  EXPECT_LE(SentBy(origin_) - kSize, 64 * kMiB);
  const auto fetched = ReadFile(RealEnv(), FetchedPath(dir_), kSize + 1);
  ASSERT_THAT(fetched, IsOk());
  EXPECT_EQ(*fetched, std::string(test_.bytes.begin(), test_.bytes.end()));
}

INSTANTIATE_TEST_SUITE_P(Percent, SwarmKillTest, ::testing::Values(10, 50, 90));

// A worker's cache, which has version 1 and fetches version 2 by a delta.
class DeltaKillTest : public ::testing::Test {
 protected:
  static constexpr int64_t kVersionBytes = 160 * kMiB;

  DeltaKillTest()
      : dir_(absl::StrCat(::testing::TempDir(), "/delta_kill")),
        origin_(OriginOptions()) {
    std::filesystem::remove_all(dir_);
    std::filesystem::create_directories(dir_ + "/cache");
  }
  ~DeltaKillTest() override { std::filesystem::remove_all(dir_); }

  static dht::TestContent Version(uint64_t seed) {
    return dht::RandomContent(seed, kVersionBytes,
                              dht::PieceSizeFor(kVersionBytes));
  }
  // Three of four bytes are the other's.
  static dht::TestContent Mixed(const dht::TestContent& from,
                                const dht::TestContent& other) {
    std::vector<uint8_t> bytes = other.bytes;
    for (size_t i = 0; i < bytes.size(); i += 4) bytes[i] = from.bytes[i];
    return dht::TreeOver(std::move(bytes), from.content().piece_size_bytes());
  }

  static v1::VersionManifest ManifestOf(int64_t version,
                                        const dht::TestContent& test) {
    v1::VersionManifest manifest;
    manifest.set_job("digits");
    manifest.set_version(version);
    manifest.set_created_ms(version);
    *manifest.mutable_content() = test.content();
    manifest.set_digest(
        Sha256Of(
            absl::string_view(reinterpret_cast<const char*>(test.bytes.data()),
                              test.bytes.size()))
            .ToBytes());
    return manifest;
  }
  static std::string Enveloped(const v1::VersionManifest& manifest) {
    v1::Signed envelope;
    manifest.SerializeToString(envelope.mutable_body());
    return envelope.SerializeAsString();
  }
  std::string CachedPath(const v1::VersionManifest& manifest,
                         const std::string& suffix) const {
    return absl::StrCat(dir_, "/cache/",
                        Digest::FromBytes(manifest.digest())->ToHex(), suffix);
  }

  void Serve(const std::string& name, const dht::TestContent& test) {
    const std::string path = absl::StrCat(dir_, "/", name);
    ASSERT_THAT(dht::WriteContent(RealEnv(), path, test), IsOk());
    auto file = dht::ContentFile::OpenWhole(RealEnv(), path, test.content(),
                                            test.tree.leaves);
    ASSERT_THAT(file, IsOk());
    origin_.board()->Add(*file, Digest());
  }

  // From what is in the cache to what is in DIR/whole.
  void MakeDelta(const std::string& from, dht::TestContent* delta) {
    const std::string path = dir_ + "/difference";
    const auto from_file = RealEnv()->Open(from, Env::OpenMode::kRead);
    const auto to_file = RealEnv()->Open(dir_ + "/whole", Env::OpenMode::kRead);
    const auto out = RealEnv()->Open(path, Env::OpenMode::kCreate);
    const auto size =
        dht::WriteDelta(**from_file, **to_file, out->get(), kVersionBytes);
    ASSERT_THAT(size, IsOk());
    ASSERT_NE(*size, std::nullopt);
    std::vector<uint8_t> bytes(**size);
    ASSERT_THAT((*out)->ReadAt(0, bytes.size(), bytes.data()), IsOk());
    *delta = dht::TreeOver(std::move(bytes), dht::PieceSizeFor(**size));
  }

  const std::string dir_;
  dht::TestHost origin_;
};

TEST_F(DeltaKillTest, WorkerThatWasKilledInADelta_FetchesAtMost64MiBAgain) {
  const dht::TestContent one = Version(1);
  const dht::TestContent two = Mixed(one, Version(2));
  const v1::VersionManifest old = ManifestOf(1, one);
  v1::VersionManifest wanted = ManifestOf(2, two);
  ASSERT_THAT(
      dht::WriteContent(RealEnv(), CachedPath(old, ".safetensors"), one),
      IsOk());
  ASSERT_THAT(WriteFileAtomically(RealEnv(), CachedPath(old, ".manifest"),
                                  Enveloped(old)),
              IsOk());
  ASSERT_NO_FATAL_FAILURE(Serve("whole", two));
  dht::TestContent delta;
  ASSERT_NO_FATAL_FAILURE(MakeDelta(CachedPath(old, ".safetensors"), &delta));
  ASSERT_NO_FATAL_FAILURE(Serve("delta", delta));
  v1::Delta* said = wanted.add_deltas();
  said->set_from_digest(old.digest());
  *said->mutable_content() = delta.content();
  ASSERT_THAT(
      WriteFileAtomically(RealEnv(), dir_ + "/wanted", Enveloped(wanted)),
      IsOk());

  const int64_t size = delta.content().size_bytes();
  ASSERT_GT(size, 100 * kMiB);  // more than may be fetched again
  const auto first = StartChild("cache", dir_, origin_);
  ASSERT_NO_FATAL_FAILURE(KillAt(size * 9 / 10, origin_, first.get()));
  const auto second = StartChild("cache", dir_, origin_);
  ASSERT_EQ(second->Wait(kPatience), "exit code 0");
  EXPECT_LE(SentBy(origin_) - size, 64 * kMiB);
  const auto fetched = ReadFile(RealEnv(), CachedPath(wanted, ".safetensors"),
                                kVersionBytes + 1);
  ASSERT_THAT(fetched, IsOk());
  EXPECT_TRUE(*fetched == std::string(two.bytes.begin(), two.bytes.end()));
}

}  // namespace
}  // namespace koinon::testing

int main(int argc, char** argv) {
  if (argc == 4) {
    const bool cache = std::string(argv[1]) == "cache";
    const absl::Status status =
        cache ? koinon::testing::RunCache(argv[2], argv[3])
              : koinon::testing::RunFetcher(argv[2], argv[3]);
    if (!status.ok()) std::cerr << status << std::endl;
    return status.ok() ? 0 : 1;
  }
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
