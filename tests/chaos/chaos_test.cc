// Real processes, killed at any instant.

#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

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
constexpr int64_t kRounds = 25;

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

std::string JobName(int index) { return absl::StrCat("job-", index); }

// Runs jobs 0 to count - 1, one after the other, and nobody disturbs them.
std::vector<std::string> UndisturbedDigests(int count) {
  auto federation = StartFederation("undisturbed");
  std::vector<std::string> digests;
  for (int i = 0; i < count; ++i) {
    EXPECT_OK(federation->Submit(federation->MakeJob(JobName(i), kRounds)));
    const auto end = federation->AwaitEnd(JobName(i));
    EXPECT_OK(end);
    if (!end.ok()) return digests;
    EXPECT_EQ(end->state(), v1::SUCCEEDED) << end->reason();
    ExpectCompleteRounds(*federation, JobName(i));
    digests.push_back(end->last_report().model_digest());
  }
  return digests;
}

// Lets `disturb` strike at random instants, `count` times while a job runs;
// jobs follow each other. Then each must have ended as if nothing had happened.
template <typename Disturb>
void ExpectUnmovedBy(ProcessFederation* federation, int count, Random* random,
                     Disturb disturb) {
  int jobs = 0;
  for (int strikes = 0; strikes < count; ++jobs) {
    const std::string job = JobName(jobs);
    ASSERT_OK(federation->Submit(federation->MakeJob(job, kRounds)));
    while (strikes < count) {
      // From "before it serves again" to "some rounds later".
      absl::SleepFor(absl::Microseconds(random->NextBelow(500'000)));
      const auto status = federation->Get(job);
      if (status.ok() && status->state() == v1::SUCCEEDED) break;
      ASSERT_NO_FATAL_FAILURE(disturb());
      ++strikes;
    }
  }
  const std::vector<std::string> expected = UndisturbedDigests(jobs);
  ASSERT_EQ(expected.size(), static_cast<size_t>(jobs));
  for (int i = 0; i < jobs; ++i) {
    ASSERT_OK_AND_ASSIGN(const auto end, federation->AwaitEnd(JobName(i)));
    EXPECT_EQ(end.state(), v1::SUCCEEDED) << end.reason();
    EXPECT_EQ(end.last_report().model_digest(), expected[i]) << JobName(i);
    ExpectCompleteRounds(*federation, JobName(i));
  }
  std::cout << count << " strikes over " << jobs << " jobs of " << kRounds
            << " rounds" << std::endl;
}

TEST(ChaosTest, Coordinator_KilledAHundredTimes_LosesAndRepeatsNothing) {
  Random random(ChaosSeed());
  auto federation = StartFederation("coordinator");
  ExpectUnmovedBy(federation.get(), kKills, &random, [&] {
    ASSERT_TRUE(federation->CoordinatorRuns());
    federation->KillCoordinator();
    ASSERT_OK(federation->StartCoordinator());
  });
}

TEST(ChaosTest, Workers_KilledInTurn_RejoinAndTheJobEndsTheSame) {
  Random random(ChaosSeed() + 1);
  auto federation = StartFederation("workers");
  ExpectUnmovedBy(federation.get(), 15, &random, [&] {
    const int victim = static_cast<int>(random.NextBelow(kWorkers));
    federation->KillWorker(victim);
    ASSERT_OK(federation->StartWorker(victim));
  });
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
