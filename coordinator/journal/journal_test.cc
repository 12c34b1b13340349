#include "coordinator/journal/journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <functional>
#include <limits>

#include "absl/strings/str_cat.h"
#include "base/status_matchers.h"
#include "coordinator/journal/testing_journal.h"

// What every journal does, whatever it is made of.

namespace koinon::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

const absl::Time kTime = absl::FromUnixMicros(1'700'000'000'123'456);

JobRow MakeJob(const JobId& name) {
  JobRow row;
  row.spec.set_name(name);
  row.spec.set_rounds(7);
  row.state = v1::RUNNING;
  row.reason = "because \"quoted\"; DROP TABLE jobs";
  row.submitted = kTime;
  row.records_epoch = 1'700'000'000'777;
  return row;
}

RoundRow MakeRound(const JobId& job, int64_t round) {
  RoundRow row;
  row.job = job;
  row.round = round;
  row.attempt = 2;
  row.cohort_seed = std::numeric_limits<uint64_t>::max();
  row.opened = kTime;
  row.deadline = kTime + absl::Seconds(600);
  row.cohort = {"site-a", "site-b", "site-c"};
  return row;
}

AcceptedRow MakeAccepted(const JobId& job, int64_t round,
                         const WorkerId& worker, const std::string& bytes) {
  AcceptedRow row;
  row.job = job;
  row.round = round;
  row.task_round = round;
  row.worker = worker;
  row.digest = Sha256Of(bytes);
  row.extent = {.offset = 4096, .size = 512};
  row.metrics.set_examples(42);
  row.metrics.set_loss(0.5);
  return row;
}

VersionRow MakeVersion(const JobId& job, int64_t version) {
  VersionRow row;
  row.manifest.set_job(job);
  row.manifest.set_version(version);
  row.manifest.set_digest(Sha256Of(absl::StrCat(version)).ToBytes());
  row.manifest.set_size_bytes(1000);
  row.manifest.add_chunk_digests(Sha256Of("chunk").ToBytes());
  return row;
}

struct Kind {
  std::string name;
  std::function<absl::StatusOr<std::unique_ptr<Journal>>()> make;
};

absl::StatusOr<std::unique_ptr<Journal>> MakeSqlite() {
  std::string dir = absl::StrCat(::testing::TempDir(), "/journal-XXXXXX");
  if (mkdtemp(dir.data()) == nullptr) return absl::InternalError(dir);
  return OpenSqliteJournal(dir + "/journal.db", kTime);
}

class JournalContractTest : public ::testing::TestWithParam<Kind> {
 protected:
  void SetUp() override { ASSERT_OK_AND_ASSIGN(journal_, GetParam().make()); }
  JournalContents Load() {
    auto contents = journal_->Load();
    EXPECT_OK(contents);
    return contents.ok() ? *std::move(contents) : JournalContents();
  }
  absl::Status Put(std::vector<Mutation> mutations) {
    return journal_->Commit(mutations);
  }

  std::unique_ptr<Journal> journal_;
};

TEST_P(JournalContractTest, Load_NewJournal_IsEmpty) {
  const JournalContents contents = Load();
  EXPECT_THAT(contents.jobs, IsEmpty());
  EXPECT_THAT(contents.rounds, IsEmpty());
  EXPECT_THAT(contents.accepted, IsEmpty());
  EXPECT_THAT(contents.versions, IsEmpty());
  EXPECT_EQ(journal_->epoch(), 1);
}

TEST_P(JournalContractTest, Commit_Empty_IsOk) { EXPECT_OK(Put({})); }

TEST_P(JournalContractTest, Commit_EveryField_ComesBack) {
  RoundRow round = MakeRound("digits", 3);
  round.phase = RoundPhase::kPublished;
  round.included = {"site-a", "site-c"};
  round.report.set_round(3);
  ASSERT_OK(
      Put({MakeJob("digits"), round, MakeAccepted("digits", 3, "site-a", "x"),
           MakeVersion("digits", 0)}));
  const JournalContents contents = Load();

  const JobRow& job = contents.jobs.at("digits");
  EXPECT_EQ(job.spec.SerializeAsString(),
            MakeJob("digits").spec.SerializeAsString());
  EXPECT_EQ(job.state, v1::RUNNING);
  EXPECT_EQ(job.reason, MakeJob("digits").reason);
  EXPECT_EQ(job.submitted, kTime);
  EXPECT_EQ(job.finished, absl::InfiniteFuture());
  EXPECT_EQ(job.records_epoch, MakeJob("digits").records_epoch);

  const RoundRow& kept = contents.rounds.at("digits").at(3);
  EXPECT_EQ(kept.job, "digits");
  EXPECT_EQ(kept.round, 3);
  EXPECT_EQ(kept.phase, RoundPhase::kPublished);
  EXPECT_EQ(kept.attempt, 2);
  EXPECT_EQ(kept.cohort_seed, std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(kept.opened, kTime);
  EXPECT_EQ(kept.deadline, kTime + absl::Seconds(600));
  EXPECT_THAT(kept.cohort, ElementsAre("site-a", "site-b", "site-c"));
  EXPECT_THAT(kept.included, ElementsAre("site-a", "site-c"));
  EXPECT_EQ(kept.report.round(), 3);

  const AcceptedRow& accepted =
      contents.accepted.at("digits").at(3).at("site-a");
  EXPECT_EQ(accepted.job, "digits");
  EXPECT_EQ(accepted.round, 3);
  EXPECT_EQ(accepted.worker, "site-a");
  EXPECT_EQ(accepted.digest, Sha256Of("x"));
  EXPECT_EQ(accepted.extent, (SpoolExtent{.offset = 4096, .size = 512}));
  EXPECT_EQ(accepted.metrics.examples(), 42);

  EXPECT_EQ(contents.versions.at("digits").at(0).manifest.SerializeAsString(),
            MakeVersion("digits", 0).manifest.SerializeAsString());
}

TEST_P(JournalContractTest, Commit_BufferedRound_ComesBack) {
  RoundRow round = MakeRound("digits", 5);
  round.carried = {{"site-a", 4}, {"site-c", 1}};
  AcceptedRow accepted = MakeAccepted("digits", 5, "site-c", "x");
  accepted.task_round = 1;
  ASSERT_OK(Put({MakeJob("digits"), round, accepted}));
  JournalContents contents = Load();
  EXPECT_EQ(contents.rounds.at("digits").at(5).carried, round.carried);
  EXPECT_EQ(contents.accepted.at("digits").at(5).at("site-c").task_round, 1);
  round.carried.clear();
  ASSERT_OK(Put({round}));
  EXPECT_THAT(Load().rounds.at("digits").at(5).carried, IsEmpty());
}

TEST_P(JournalContractTest, Commit_Times_AreKeptToTheMicrosecond) {
  RoundRow round = MakeRound("digits", 1);
  round.opened = absl::InfinitePast();
  round.deadline = absl::InfiniteFuture();
  JobRow job = MakeJob("digits");
  job.submitted = kTime + absl::Nanoseconds(999);
  job.finished = kTime;
  ASSERT_OK(Put({job, round}));
  const JournalContents contents = Load();
  EXPECT_EQ(contents.jobs.at("digits").submitted, kTime);
  EXPECT_EQ(contents.jobs.at("digits").finished, kTime);
  EXPECT_EQ(contents.rounds.at("digits").at(1).opened, absl::InfinitePast());
  EXPECT_EQ(contents.rounds.at("digits").at(1).deadline,
            absl::InfiniteFuture());
}

TEST_P(JournalContractTest, Commit_SameKeyAgain_Replaces) {
  ASSERT_OK(Put({MakeJob("digits"), MakeRound("digits", 1),
                 MakeAccepted("digits", 1, "site-a", "x"),
                 MakeVersion("digits", 1)}));
  JobRow job = MakeJob("digits");
  job.state = v1::PAUSED;
  job.records_epoch = 9;
  RoundRow round = MakeRound("digits", 1);
  round.phase = RoundPhase::kClosed;
  round.cohort = {};
  VersionRow version = MakeVersion("digits", 1);
  version.manifest.set_size_bytes(7);
  ASSERT_OK(Put({job, round, version}));
  const JournalContents contents = Load();
  EXPECT_EQ(contents.jobs.at("digits").state, v1::PAUSED);
  EXPECT_EQ(contents.jobs.at("digits").records_epoch, 9);
  EXPECT_EQ(contents.rounds.at("digits").at(1).phase, RoundPhase::kClosed);
  EXPECT_THAT(contents.rounds.at("digits").at(1).cohort, IsEmpty());
  EXPECT_EQ(contents.versions.at("digits").at(1).manifest.size_bytes(), 7);
  // The rows that refer to a replaced one stay.
  EXPECT_THAT(contents.accepted.at("digits").at(1), SizeIs(1));
}

TEST_P(JournalContractTest, Accepted_SameDigestAgain_KeepsTheFirst) {
  ASSERT_OK(Put({MakeJob("digits"), MakeRound("digits", 1),
                 MakeAccepted("digits", 1, "site-a", "x")}));
  AcceptedRow again = MakeAccepted("digits", 1, "site-a", "x");
  again.extent.offset = 99;
  ASSERT_OK(Put({again}));
  EXPECT_EQ(Load().accepted.at("digits").at(1).at("site-a").extent.offset,
            4096u);
}

TEST_P(JournalContractTest, Accepted_OtherDigest_FailsTheWholeCommit) {
  ASSERT_OK(Put({MakeJob("digits"), MakeRound("digits", 1),
                 MakeAccepted("digits", 1, "site-a", "x")}));
  EXPECT_THAT(
      Put({MakeJob("other"), MakeAccepted("digits", 1, "site-b", "z"),
           MakeAccepted("digits", 1, "site-a", "y")}),
      StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("digits/1/site-a")));
  const JournalContents contents = Load();
  EXPECT_EQ(contents.jobs.count("other"), 0u);
  EXPECT_THAT(contents.accepted.at("digits").at(1), SizeIs(1));
  EXPECT_EQ(contents.accepted.at("digits").at(1).at("site-a").digest,
            Sha256Of("x"));
  EXPECT_OK(Put({MakeJob("other")}));  // the journal goes on
}

TEST_P(JournalContractTest, Accepted_TwoDigestsInOneCommit_IsRefused) {
  ASSERT_OK(Put({MakeJob("digits"), MakeRound("digits", 1)}));
  EXPECT_THAT(Put({MakeAccepted("digits", 1, "site-a", "x"),
                   MakeAccepted("digits", 1, "site-a", "y")}),
              StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_THAT(Load().accepted, IsEmpty());
}

TEST_P(JournalContractTest, Forget_OneOrAllOfARound_LeavesTheRest) {
  ASSERT_OK(
      Put({MakeJob("digits"), MakeRound("digits", 1), MakeRound("digits", 2),
           MakeAccepted("digits", 1, "site-a", "a"),
           MakeAccepted("digits", 1, "site-b", "b"),
           MakeAccepted("digits", 2, "site-a", "c")}));
  ASSERT_OK(Put({ForgetAccepted{"digits", 1, "site-a"}}));
  EXPECT_THAT(Load().accepted.at("digits").at(1), SizeIs(1));
  EXPECT_EQ(Load().accepted.at("digits").at(1).count("site-b"), 1u);
  ASSERT_OK(Put({ForgetAccepted{"digits", 1, ""}}));
  EXPECT_EQ(Load().accepted.at("digits").count(1), 0u);
  EXPECT_THAT(Load().accepted.at("digits").at(2), SizeIs(1));
  ASSERT_OK(Put({ForgetAccepted{"digits", 2, ""}}));
  EXPECT_THAT(Load().accepted, IsEmpty());
  EXPECT_OK(Put(
      {ForgetAccepted{"digits", 9, ""}, ForgetAccepted{"none", 1, "site-a"}}));
  // Forgotten, another digest may come.
  EXPECT_OK(Put({MakeAccepted("digits", 1, "site-a", "new")}));
}

TEST_P(JournalContractTest, ForgetVersion_LeavesTheOthers) {
  ASSERT_OK(Put(
      {MakeJob("digits"), MakeVersion("digits", 0), MakeVersion("digits", 1)}));
  ASSERT_OK(Put({ForgetVersion{"digits", 0}, ForgetVersion{"digits", 8}}));
  EXPECT_THAT(Load().versions.at("digits"), SizeIs(1));
  EXPECT_EQ(Load().versions.at("digits").count(1), 1u);
  ASSERT_OK(Put({ForgetVersion{"digits", 1}, ForgetVersion{"none", 1}}));
  EXPECT_THAT(Load().versions, IsEmpty());
}

TEST_P(JournalContractTest, Commit_RowWithoutItsParent_IsRefused) {
  EXPECT_THAT(Put({MakeRound("digits", 1)}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Put({MakeVersion("digits", 1)}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  ASSERT_OK(Put({MakeJob("digits")}));
  EXPECT_THAT(Put({MakeAccepted("digits", 1, "site-a", "x")}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Load().rounds, IsEmpty());
}

TEST_P(JournalContractTest, Commit_RowThatIsNone_IsRefusedWhole) {
  JobRow before_1970 = MakeJob("other");
  before_1970.records_epoch = -1;
  JobRow stateless = MakeJob("other");
  stateless.state = v1::JOB_STATE_UNSPECIFIED;
  RoundRow unordered = MakeRound("digits", 1);
  unordered.cohort = {"site-b", "site-a"};
  RoundRow carries_itself = MakeRound("digits", 2);
  carries_itself.carried = {{"site-a", 2}};
  RoundRow carries_from_nowhere = MakeRound("digits", 2);
  carries_from_nowhere.carried = {{"site-a", 0}};
  RoundRow carries_a_stranger = MakeRound("digits", 2);
  carries_a_stranger.carried = {{"site-x", 1}};
  AcceptedRow from_the_future = MakeAccepted("digits", 1, "site-a", "x");
  from_the_future.task_round = 2;
  AcceptedRow taskless = MakeAccepted("digits", 1, "site-a", "x");
  taskless.task_round = 0;
  AcceptedRow huge = MakeAccepted("digits", 1, "site-a", "x");
  huge.extent = {.offset = std::numeric_limits<uint64_t>::max(), .size = 1};
  VersionRow undigested = MakeVersion("digits", 1);
  undigested.manifest.set_digest("short");
  const std::vector<Mutation> bad = {
      MakeJob("has space"),
      stateless,
      before_1970,
      MakeRound("digits", 0),
      unordered,
      carries_itself,
      carries_from_nowhere,
      carries_a_stranger,
      from_the_future,
      taskless,
      huge,
      MakeAccepted("digits", 1, "../etc", "x"),
      undigested,
      MakeVersion("digits", -1),
      ForgetAccepted{"", 1, ""},
      ForgetVersion{"", 1},
  };
  for (size_t i = 0; i < bad.size(); ++i) {
    EXPECT_THAT(Put({MakeJob("digits"), MakeRound("digits", 1), bad[i]}),
                StatusIs(absl::StatusCode::kInvalidArgument))
        << i;
  }
  EXPECT_THAT(Load().jobs, IsEmpty());
}

TEST_P(JournalContractTest, FaultInjection_Before_WritesNothing) {
  FaultInjectingJournal faulty(journal_.get());
  faulty.FailCommit(2, FaultInjectingJournal::When::kBefore,
                    absl::ResourceExhaustedError("disk full"));
  const std::vector<Mutation> first = {MakeJob("a")};
  const std::vector<Mutation> second = {MakeJob("b")};
  ASSERT_OK(faulty.Commit(first));
  EXPECT_THAT(faulty.Commit(second),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(Load().jobs, SizeIs(1));
  EXPECT_OK(faulty.Commit(second));
  EXPECT_THAT(Load().jobs, SizeIs(2));
  EXPECT_EQ(faulty.commits(), 3);
}

TEST_P(JournalContractTest, FaultInjection_After_WritesAll) {
  FaultInjectingJournal faulty(journal_.get());
  faulty.FailCommit(1, FaultInjectingJournal::When::kAfter,
                    absl::DataLossError("who knows"));
  const std::vector<Mutation> mutations = {MakeJob("a")};
  EXPECT_THAT(faulty.Commit(mutations), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(Load().jobs, SizeIs(1));
}

INSTANTIATE_TEST_SUITE_P(
    Journals, JournalContractTest,
    ::testing::Values(Kind{"Memory",
                           [] {
                             return absl::StatusOr<std::unique_ptr<Journal>>(
                                 NewMemoryJournal());
                           }},
                      Kind{"Sqlite", MakeSqlite}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace koinon::coordinator
