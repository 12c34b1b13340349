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

#include "absl/strings/str_cat.h"
#include "base/env.h"
#include "base/status_macros.h"
#include "base/status_matchers.h"
#include "dht/swarm/fetcher.h"
#include "dht/swarm/testing_content.h"
#include "dht/swarm/testing_host.h"
#include "tools/cli/process.h"

namespace koinon::testing {
namespace {

using ::absl_testing::IsOk;

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kSize = 256 * kMiB + 4321;
// Patience with a busy machine; nothing waits for it otherwise.
constexpr absl::Duration kPatience = absl::Minutes(2);

std::string FetchedPath(const std::string& dir) { return dir + "/fetched"; }

// The process that is killed: DIR and the origin's address.
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

  static dht::TestHost::Options OriginOptions() {
    dht::TestHost::Options options{.name = "origin"};
    options.seeder.is_origin = true;
    return options;
  }

  std::unique_ptr<cli::ChildProcess> StartFetcher() {
    auto process = cli::ChildProcess::Start(
        {"/proc/self/exe", "fetch", dir_, origin_.self().address},
        dir_ + "/log");
    EXPECT_THAT(process, IsOk());
    return *std::move(process);
  }
  int64_t sent() { return origin_.board()->traffic().to_peers(); }

  const std::string dir_;
  const dht::TestContent test_;
  dht::TestHost origin_;
};

TEST_P(SwarmKillTest, FetcherThatWasKilled_FetchesAtMost64MiBAgain) {
  {
    const auto first = StartFetcher();
    const int64_t kill_at = kSize * GetParam() / 100;
    while (sent() < kill_at) {
      ASSERT_EQ(first->Poll(), std::nullopt) << "it ended before it was killed";
      std::this_thread::yield();
    }
    first->Signal(SIGKILL);
    ASSERT_NE(first->Wait(kPatience), std::nullopt);
  }
  const auto second = StartFetcher();
  ASSERT_EQ(second->Wait(kPatience), "exit code 0");
  // What left the origin counts, whether or not it arrived.
  EXPECT_LE(sent() - kSize, 64 * kMiB);
  const auto fetched = ReadFile(RealEnv(), FetchedPath(dir_), kSize + 1);
  ASSERT_THAT(fetched, IsOk());
  EXPECT_EQ(*fetched, std::string(test_.bytes.begin(), test_.bytes.end()));
}

INSTANTIATE_TEST_SUITE_P(Percent, SwarmKillTest, ::testing::Values(10, 50, 90));

}  // namespace
}  // namespace koinon::testing

int main(int argc, char** argv) {
  if (argc == 4 && std::string(argv[1]) == "fetch") {
    const absl::Status status = koinon::testing::RunFetcher(argv[2], argv[3]);
    if (!status.ok()) std::cerr << status << std::endl;
    return status.ok() ? 0 : 1;
  }
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
