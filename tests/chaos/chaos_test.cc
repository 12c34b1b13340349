// Real processes, killed at any instant.

#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/digest.h"
#include "base/random.h"
#include "base/status_matchers.h"
#include "tests/chaos/process_federation.h"

namespace koinon::testing {
namespace {

constexpr int kWorkers = 3;
constexpr int kKills = 100;
// Enough rounds that the job outlives the kills; what is left over at the end
// runs undisturbed.
constexpr int64_t kRounds = 60;

std::string TestDir(const std::string& name) {
  return absl::StrCat(::testing::TempDir(), "/", name);
}

// KOINON_CHAOS_SEED repeats a run.
uint64_t ChaosSeed() {
  uint64_t seed = 20240607;
  const char* given = getenv("KOINON_CHAOS_SEED");
  if (given != nullptr) {
    EXPECT_TRUE(absl::SimpleAtoi(given, &seed)) << given;
  }
  std::cout << "KOINON_CHAOS_SEED=" << seed << std::endl;
  return seed;
}

std::unique_ptr<ProcessFederation> StartFederation(const std::string& name) {
  auto federation =
      std::make_unique<ProcessFederation>(TestDir(name), kWorkers);
  EXPECT_THAT(federation->StartCoordinator(), IsOk());
  for (int i = 0; i < kWorkers; ++i) {
    EXPECT_THAT(federation->StartWorker(i), IsOk());
  }
  return federation;
}

// Every round has every worker's update exactly once.
void ExpectCompleteRounds(const ProcessFederation& federation,
                          const std::string& job) {
  ASSERT_OK_AND_ASSIGN(const auto rounds, federation.Rounds(job));
  ASSERT_EQ(rounds.size(), static_cast<size_t>(kRounds));
  for (size_t i = 0; i < rounds.size(); ++i) {
    EXPECT_EQ(rounds[i].round(), static_cast<int64_t>(i) + 1);
    ASSERT_EQ(rounds[i].included_size(), kWorkers) << "round " << i + 1;
    for (int w = 0; w < kWorkers; ++w) {
      EXPECT_EQ(rounds[i].included(w), absl::StrCat("site-", w));
    }
  }
}

std::string UndisturbedDigest() {
  auto federation = StartFederation("undisturbed");
  EXPECT_THAT(federation->Submit(federation->MakeJob("job", kRounds)), IsOk());
  const auto end = federation->AwaitEnd("job");
  EXPECT_THAT(end, IsOk());
  if (!end.ok()) return "";
  EXPECT_EQ(end->state(), v1::SUCCEEDED) << end->reason();
  ExpectCompleteRounds(*federation, "job");
  return end->last_report().model_digest();
}

TEST(ChaosTest, Coordinator_KilledAHundredTimes_LosesAndRepeatsNothing) {
  const std::string expected = UndisturbedDigest();
  ASSERT_EQ(expected.size(), Digest::kSizeBytes);

  Random random(ChaosSeed());
  auto federation = StartFederation("disturbed");
  ASSERT_OK(federation->Submit(federation->MakeJob("job", kRounds)));
  int kills_while_running = 0;
  for (int kill = 0; kill < kKills; ++kill) {
    // From "before it serves" to "after a round or two".
    absl::SleepFor(absl::Microseconds(random.NextBelow(400'000)));
    ASSERT_TRUE(federation->CoordinatorRuns());
    const auto status = federation->Get("job");
    kills_while_running +=
        status.ok() && (status->state() == v1::RUNNING ||
                        status->state() == v1::PENDING);
    federation->KillCoordinator();
    ASSERT_OK(federation->StartCoordinator());
  }
  ASSERT_OK_AND_ASSIGN(const auto end, federation->AwaitEnd("job"));
  EXPECT_EQ(end.state(), v1::SUCCEEDED) << end.reason();
  std::cout << kills_while_running << " of " << kKills
            << " kills hit a job that was not finished" << std::endl;
  EXPECT_EQ(end.last_report().model_digest(), expected);
  ExpectCompleteRounds(*federation, "job");
}

TEST(ChaosTest, Workers_KilledInTurn_RejoinAndTheJobEndsTheSame) {
  const std::string expected = UndisturbedDigest();
  Random random(ChaosSeed() + 1);
  auto federation = StartFederation("workers");
  ASSERT_OK(federation->Submit(federation->MakeJob("job", kRounds)));
  for (int kill = 0; kill < 12; ++kill) {
    absl::SleepFor(absl::Microseconds(random.NextBelow(200'000)));
    const int victim = static_cast<int>(random.NextBelow(kWorkers));
    federation->KillWorker(victim);
    ASSERT_OK(federation->StartWorker(victim));
  }
  ASSERT_OK_AND_ASSIGN(const auto end, federation->AwaitEnd("job"));
  EXPECT_EQ(end.state(), v1::SUCCEEDED) << end.reason();
  EXPECT_EQ(end.last_report().model_digest(), expected);
  ExpectCompleteRounds(*federation, "job");
}

TEST(ChaosTest, Coordinator_ToldToStop_DrainsAndExitsWithZero) {
  auto federation = StartFederation("graceful");
  ASSERT_OK(federation->Submit(federation->MakeJob("job", kRounds)));
  EXPECT_EQ(federation->StopCoordinator(), "exit code 0");
  ASSERT_OK(federation->StartCoordinator());
  ASSERT_OK_AND_ASSIGN(const auto end, federation->AwaitEnd("job"));
  EXPECT_EQ(end.state(), v1::SUCCEEDED);
  ExpectCompleteRounds(*federation, "job");
}

}  // namespace
}  // namespace koinon::testing
