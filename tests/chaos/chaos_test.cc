// Real processes, killed at any instant.

#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <memory>
#include <set>
#include <string>
#include <utility>
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

// Runs jobs 0 to count - 1, each like `spec`, one after the other, and nobody
// disturbs them.
std::vector<std::string> UndisturbedDigests(v1::JobSpec spec, int count) {
  auto federation = StartFederation("undisturbed");
  std::vector<std::string> digests;
  for (int i = 0; i < count; ++i) {
    spec.set_name(JobName(i));
    EXPECT_OK(federation->Submit(spec));
    const auto end = federation->AwaitEnd(JobName(i));
    EXPECT_OK(end);
    if (!end.ok()) return digests;
    EXPECT_EQ(end->state(), v1::SUCCEEDED) << end->reason();
    ExpectCompleteRounds(*federation, JobName(i));
    digests.push_back(end->last_report().model_digest());
  }
  return digests;
}

// Lets `disturb` strike at random instants, `count` times while a job like
// `spec` runs; jobs follow each other. `jobs`: how many.
template <typename Disturb>
void Strike(ProcessFederation* federation, v1::JobSpec spec, int count,
            Random* random, Disturb disturb, int* jobs) {
  *jobs = 0;
  for (int strikes = 0; strikes < count; ++*jobs) {
    spec.set_name(JobName(*jobs));
    ASSERT_OK(federation->Submit(spec));
    while (strikes < count) {
      // From "before it serves again" to "some rounds later".
      absl::SleepFor(absl::Microseconds(random->NextBelow(500'000)));
      const auto status = federation->Get(spec.name());
      if (status.ok() && status->state() == v1::SUCCEEDED) break;
      ASSERT_NO_FATAL_FAILURE(disturb());
      ++strikes;
    }
  }
  std::cout << count << " strikes over " << *jobs << " jobs of "
            << spec.rounds() << " rounds" << std::endl;
}

// Each job must have ended as if nothing had happened.
template <typename Disturb>
void ExpectUnmovedBy(ProcessFederation* federation, const v1::JobSpec& spec,
                     int count, Random* random, Disturb disturb) {
  int jobs = 0;
  ASSERT_NO_FATAL_FAILURE(
      Strike(federation, spec, count, random, disturb, &jobs));
  const std::vector<std::string> expected = UndisturbedDigests(spec, jobs);
  ASSERT_EQ(expected.size(), static_cast<size_t>(jobs));
  for (int i = 0; i < jobs; ++i) {
    ASSERT_OK_AND_ASSIGN(const auto end, federation->AwaitEnd(JobName(i)));
    EXPECT_EQ(end.state(), v1::SUCCEEDED) << end.reason();
    EXPECT_EQ(end.last_report().model_digest(), expected[i]) << JobName(i);
    ExpectCompleteRounds(*federation, JobName(i));
  }
}

// Every buffer is full, and has one update for each of its tasks, which no
// other buffer has. Returns how many updates were stale.
int ExpectFullBuffers(const ProcessFederation& federation,
                      const v1::JobSpec& spec) {
  const auto rounds = federation.Rounds(spec.name());
  EXPECT_OK(rounds);
  if (!rounds.ok()) return 0;
  EXPECT_EQ(rounds->size(), static_cast<size_t>(spec.rounds()));
  int stale = 0;
  std::set<std::pair<std::string, int64_t>> taken;
  for (const v1::RoundReport& report : *rounds) {
    EXPECT_EQ(report.included_size(), spec.buffer().size()) << report.round();
    EXPECT_EQ(report.aggregation().updates_size(), report.included_size());
    for (const auto& update : report.aggregation().updates()) {
      EXPECT_GE(update.staleness(), 0);
      EXPECT_LE(update.staleness(), spec.buffer().max_staleness());
      if (update.staleness() > 0) ++stale;
      EXPECT_TRUE(
          taken.insert({update.worker(), report.round() - update.staleness()})
              .second)
          << update.worker() << " in round " << report.round();
    }
  }
  return stale;
}

TEST(ChaosTest, Coordinator_KilledAHundredTimes_LosesAndRepeatsNothing) {
  Random random(ChaosSeed());
  auto federation = StartFederation("coordinator");
  ExpectUnmovedBy(federation.get(), federation->MakeJob("", kRounds), kKills,
                  &random, [&] {
                    ASSERT_TRUE(federation->CoordinatorRuns());
                    federation->KillCoordinator();
                    ASSERT_OK(federation->StartCoordinator());
                  });
}

// No update is kept: what was acknowledged is in a sum.
TEST(ChaosTest, UpdatesAddedOnArrival_CoordinatorKilled_EachIsInOnce) {
  Random random(ChaosSeed() + 3);
  auto federation = StartFederation("folding");
  v1::JobSpec spec = federation->MakeJob("", kRounds);
  spec.mutable_aggregation()->mutable_fedavg()->set_arithmetic(
      v1::AggregationSpec::FedAvg::FIXED_POINT);
  ExpectUnmovedBy(federation.get(), spec, 40, &random, [&] {
    ASSERT_TRUE(federation->CoordinatorRuns());
    federation->KillCoordinator();
    ASSERT_OK(federation->StartCoordinator());
  });
}

TEST(ChaosTest, Workers_KilledInTurn_RejoinAndTheJobEndsTheSame) {
  Random random(ChaosSeed() + 1);
  auto federation = StartFederation("workers");
  ExpectUnmovedBy(
      federation.get(), federation->MakeJob("", kRounds), 15, &random, [&] {
        const int victim = static_cast<int>(random.NextBelow(kWorkers));
        federation->KillWorker(victim);
        ASSERT_OK(federation->StartWorker(victim));
      });
}

// Which updates share a buffer is for their arrival to decide: no two runs are
// the same, and none may lose or repeat anything.
TEST(ChaosTest, BufferedJob_EverybodyKilled_TakesEveryUpdateOnce) {
  Random random(ChaosSeed() + 2);
  auto federation = StartFederation("buffered");
  v1::JobSpec spec = federation->MakeJob("", kRounds);
  spec.mutable_cohort()->set_target(0);
  spec.mutable_cohort()->set_minimum(2);
  spec.mutable_buffer()->set_size(2);
  spec.mutable_buffer()->set_max_staleness(3);
  spec.mutable_evaluation()->set_every_rounds(5);
  int jobs = 0;
  const auto kill_somebody = [&] {
    if (random.NextBelow(4) > 0) {
      ASSERT_TRUE(federation->CoordinatorRuns());
      federation->KillCoordinator();
      ASSERT_OK(federation->StartCoordinator());
    } else {
      const int victim = static_cast<int>(random.NextBelow(kWorkers));
      federation->KillWorker(victim);
      ASSERT_OK(federation->StartWorker(victim));
    }
  };
  ASSERT_NO_FATAL_FAILURE(
      Strike(federation.get(), spec, 40, &random, kill_somebody, &jobs));
  int stale = 0;
  for (int i = 0; i < jobs; ++i) {
    spec.set_name(JobName(i));
    ASSERT_OK_AND_ASSIGN(const auto end, federation->AwaitEnd(spec.name()));
    EXPECT_EQ(end.state(), v1::SUCCEEDED) << end.reason();
    stale += ExpectFullBuffers(*federation, spec);
  }
  EXPECT_GT(stale, 0);
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
