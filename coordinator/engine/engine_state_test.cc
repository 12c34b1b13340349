// The server optimizer's state through kills, restarts and damage.

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/env.h"
#include "base/status_matchers.h"
#include "coordinator/engine/engine.h"
#include "coordinator/engine/testing_engine.h"
#include "coordinator/journal/testing_journal.h"

namespace koinon::coordinator {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;
using When = FaultInjectingJournal::When;

constexpr char kModels[] = "/data/models/job";

v1::JobSpec AdamJob(int64_t rounds) {
  v1::JobSpec spec = SmallJob("job", rounds, 2);
  spec.mutable_aggregation()->mutable_server_optimizer()->mutable_fedadam();
  return spec;
}

std::vector<std::string> StateFiles(Disk* disk) {
  auto files = disk->memory.List(kModels);
  EXPECT_OK(files);
  std::erase_if(*files, [](const std::string& file) {
    return !absl::StrContains(file, "mom");
  });
  return *files;
}

// Two sites and a disk, on which processes follow each other.
class EngineStateTest : public ::testing::Test {
 protected:
  EngineStateTest() {
    a_.name = "a";
    b_.name = "b";
  }

  // Runs a process until the job has ended, or the process has died at its
  // commit number `fault` (0: never). The job's status; UNAVAILABLE if it died.
  absl::StatusOr<v1::JobStatus> Run(Disk* disk, const v1::JobSpec& spec,
                                    int64_t fault, When when) {
    Process process(disk);
    if (fault > 0) {
      process.journal.FailCommit(fault, when, absl::DataLossError("killed"));
    }
    process.Start();
    const auto first = FakeSession::Open(&process, &a_, ++session_);
    const auto second = FakeSession::Open(&process, &b_, ++session_);
    process.engine->SubmitJob(spec, [](const auto&) {});
    AwaitEnd(&process, "job");
    absl::StatusOr<v1::JobStatus> status = absl::UnavailableError("died");
    if (!process.failed.IsSet()) {
      status = Get(&process, "job");
      reports_ = Rounds(&process, "job");
    }
    process.engine.reset();
    commits_ = process.journal.commits();
    if (!status.ok()) disk->memory.CrashAndLoseUnsynced();
    return status;
  }

  Site a_, b_;
  uint64_t session_ = 0;
  int64_t commits_ = 0;  // of the last process
  std::vector<v1::RoundReport> reports_;
};

TEST_F(EngineStateTest, FinishedJob_ReportsTheOptimizerAndKeepsNoState) {
  Disk disk;
  ASSERT_OK_AND_ASSIGN(const v1::JobStatus status,
                       Run(&disk, AdamJob(3), 0, When::kBefore));
  EXPECT_EQ(status.state(), v1::SUCCEEDED) << status.reason();
  ASSERT_EQ(reports_.size(), 3);
  for (const v1::RoundReport& report : reports_) {
    EXPECT_EQ(report.aggregation().rule(), "fedavg");
    EXPECT_EQ(report.aggregation().server_optimizer(), "fedadam");
    EXPECT_EQ(report.aggregation().updates_size(), 2);
  }
  EXPECT_THAT(StateFiles(&disk), ElementsAre());
  ASSERT_OK_AND_ASSIGN(const JournalContents contents, disk.journal->Load());
  for (const auto& [version, row] : contents.versions.at("job")) {
    EXPECT_TRUE(row.state.empty()) << version;
    if (version > 0) {
      EXPECT_EQ(row.manifest.provenance().rule(), "fedavg + fedadam");
    }
  }
}

// Reports of many workers must not fill the memory round after round.
TEST_F(EngineStateTest, OldRounds_KeepTheirReportButNotEachDecision) {
  const int64_t rounds = Engine::kDetailedReports + 2;
  Disk disk;
  ASSERT_OK_AND_ASSIGN(
      const v1::JobStatus status,
      Run(&disk, SmallJob("job", rounds, 2), 0, When::kBefore));
  ASSERT_EQ(status.state(), v1::SUCCEEDED) << status.reason();
  const auto check = [&] {
    ASSERT_EQ(reports_.size(), rounds);
    for (const v1::RoundReport& report : reports_) {
      EXPECT_EQ(report.aggregation().rule(), "fedavg");
      EXPECT_EQ(report.included_size(), 2);
      EXPECT_EQ(report.aggregation().updates_size(),
                report.round() <= 2 ? 0 : 2)
          << report.round();
      EXPECT_EQ(report.communication_size(), report.round() <= 2 ? 0 : 2)
          << report.round();
    }
  };
  check();
  Process restarted(&disk);
  restarted.Start();
  reports_ = Rounds(&restarted, "job");
  check();
}

TEST_F(EngineStateTest, KilledAtAnyCommit_EndsWithTheSameModel) {
  std::string expected;
  int64_t commits = 0;
  {
    Disk disk;
    ASSERT_OK_AND_ASSIGN(const v1::JobStatus status,
                         Run(&disk, AdamJob(3), 0, When::kBefore));
    ASSERT_EQ(status.state(), v1::SUCCEEDED) << status.reason();
    expected = reports_.back().model_digest();
    commits = commits_;
  }
  ASSERT_GT(commits, 5);
  for (int64_t k = 1; k <= commits; ++k) {
    for (const When when : {When::kBefore, When::kAfter}) {
      SCOPED_TRACE(absl::StrCat("commit ", k,
                                when == When::kBefore ? " lost" : " written"));
      Disk disk;
      auto status = Run(&disk, AdamJob(3), k, when);
      if (!status.ok()) status = Run(&disk, AdamJob(3), 0, When::kBefore);
      ASSERT_OK(status);
      ASSERT_EQ(status->state(), v1::SUCCEEDED) << status->reason();
      EXPECT_EQ(reports_.back().model_digest(), expected);
      EXPECT_THAT(StateFiles(&disk), ElementsAre());
    }
  }
}

// Kills the process just after version 2 is committed, and looks for it.
class KilledAfterRoundTwo : public EngineStateTest {
 protected:
  KilledAfterRoundTwo() {
    for (int64_t k = 1;; ++k) {
      disk_ = std::make_unique<Disk>();
      const auto status = Run(disk_.get(), AdamJob(3), k, When::kAfter);
      EXPECT_FALSE(status.ok()) << "version 2 was never the newest";
      if (status.ok()) return;
      const auto contents = disk_->journal->Load();
      EXPECT_OK(contents);
      const auto job = contents->versions.find("job");
      if (job != contents->versions.end() && job->second.rbegin()->first == 2) {
        state_ = job->second.rbegin()->second.state;
        return;
      }
    }
  }

  absl::StatusOr<v1::JobStatus> Restart() {
    return Run(disk_.get(), AdamJob(3), 0, When::kBefore);
  }

  std::unique_ptr<Disk> disk_;
  std::vector<StateFile> state_;
};

TEST_F(KilledAfterRoundTwo, Journal_NamesItsStateAndNoOlder) {
  ASSERT_EQ(state_.size(), 2);
  EXPECT_EQ(state_[0].name, "second_moment");
  EXPECT_EQ(state_[1].name, "momentum");
  ASSERT_OK_AND_ASSIGN(const JournalContents contents, disk_->journal->Load());
  EXPECT_TRUE(contents.versions.at("job").at(1).state.empty());
}

TEST_F(KilledAfterRoundTwo, Strays_AreRemovedAtTheStart) {
  // A kill may come before version 1's state is removed, or in the midst of
  // writing version 3's.
  for (const char* stray : {"1.momentum", "1.second_moment", "3.momentum"}) {
    ASSERT_OK(WriteFileAtomically(
        &disk_->memory, absl::StrCat(kModels, "/", stray, ".safetensors"),
        "a state that no version needs"));
  }
  {
    Process process(disk_.get());
    process.Start();
    EXPECT_THAT(StateFiles(disk_.get()),
                UnorderedElementsAre("2.momentum.safetensors",
                                     "2.second_moment.safetensors"));
    process.engine.reset();
  }
  ASSERT_OK_AND_ASSIGN(const v1::JobStatus status, Restart());
  EXPECT_EQ(status.state(), v1::SUCCEEDED) << status.reason();
}

TEST_F(KilledAfterRoundTwo, CorruptState_FailsTheJobAndNamesTheFile) {
  const std::string path = absl::StrCat(kModels, "/2.momentum.safetensors");
  ASSERT_OK_AND_ASSIGN(std::string bytes,
                       ReadFile(&disk_->memory, path, 1 << 20));
  bytes.back() ^= 1;
  ASSERT_OK(WriteFileAtomically(&disk_->memory, path, bytes));
  ASSERT_OK_AND_ASSIGN(const v1::JobStatus status, Restart());
  EXPECT_EQ(status.state(), v1::FAILED);
  EXPECT_THAT(status.reason(), AllOf(HasSubstr("round 3 cannot be aggregated"),
                                     HasSubstr(path), HasSubstr("digest")));
  EXPECT_EQ(status.version(), 2);
}

TEST_F(KilledAfterRoundTwo, MissingState_FailsTheJobAndNamesTheFile) {
  const std::string path =
      absl::StrCat(kModels, "/2.second_moment.safetensors");
  ASSERT_OK(disk_->memory.Remove(path));
  ASSERT_OK_AND_ASSIGN(const v1::JobStatus status, Restart());
  EXPECT_EQ(status.state(), v1::FAILED);
  EXPECT_THAT(status.reason(), AllOf(HasSubstr(path), HasSubstr("is gone")));
}

}  // namespace
}  // namespace koinon::coordinator
