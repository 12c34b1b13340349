#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <limits>
#include <sstream>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/digest.h"
#include "base/env.h"
#include "base/status_matchers.h"
#include "coordinator/journal/journal.h"

// What only a journal on disk has: crashes, other openers, damaged files.

namespace koinon::coordinator {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::SizeIs;

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);
constexpr int64_t kNowMs = 1'800'000'000'000;

std::string MakeDir() {
  std::string dir = absl::StrCat(::testing::TempDir(), "/sqlite-XXXXXX");
  EXPECT_NE(mkdtemp(dir.data()), nullptr);
  return dir;
}

std::string Slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

void Spill(const std::string& path, const std::string& content) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
}

// Another program's view of the file.
void RunSql(const std::string& path, const std::string& sql) {
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open(path.c_str(), &db), SQLITE_OK);
  EXPECT_EQ(sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK)
      << sqlite3_errmsg(db);
  sqlite3_close(db);
}

JobRow MakeJob(const JobId& name, const std::string& reason = "") {
  JobRow row;
  row.spec.set_name(name);
  row.state = v1::RUNNING;
  row.reason = reason;
  return row;
}

// One commit of one job.
absl::Status PutJob(Journal* journal, const JobId& name,
                    const std::string& reason = "") {
  const std::vector<Mutation> mutations = {MakeJob(name, reason)};
  return journal->Commit(mutations);
}

class SqliteJournalTest : public ::testing::Test {
 protected:
  std::unique_ptr<Journal> Open() {
    auto journal = OpenSqliteJournal(path_, kNow);
    EXPECT_OK(journal);
    return journal.ok() ? *std::move(journal) : nullptr;
  }

  void RemoveMark() { ASSERT_EQ(unlink((path_ + "-mark").c_str()), 0); }
  // As the next start finds it.
  int64_t RecordsEpoch(const JobId& job) {
    const auto contents = Open()->Load();
    EXPECT_OK(contents.status());
    return contents.ok() ? contents->jobs.at(job).records_epoch : -1;
  }

  const std::string dir_ = MakeDir();
  const std::string path_ = dir_ + "/journal.db";
};

TEST_F(SqliteJournalTest, Reopen_HasEverythingAndTheNextEpoch) {
  for (int64_t epoch = 1; epoch <= 3; ++epoch) {
    auto journal = Open();
    ASSERT_NE(journal, nullptr);
    EXPECT_EQ(journal->epoch(), epoch);
    ASSERT_OK_AND_ASSIGN(const JournalContents contents, journal->Load());
    EXPECT_THAT(contents.jobs, SizeIs(epoch - 1));
    ASSERT_OK(PutJob(journal.get(), absl::StrCat("job-", epoch)));
  }
}

TEST_F(SqliteJournalTest, TwoOpeners_TheOlderIsFencedForGood) {
  auto older = Open();
  ASSERT_OK(PutJob(older.get(), "before"));
  auto newer = Open();
  EXPECT_THAT(PutJob(older.get(), "late"),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr(path_), HasSubstr("epoch 2"),
                             HasSubstr("epoch 1"))));
  EXPECT_OK(PutJob(newer.get(), "after"));
  EXPECT_THAT(PutJob(older.get(), "later"),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  ASSERT_OK_AND_ASSIGN(const JournalContents contents, newer->Load());
  EXPECT_EQ(contents.jobs.count("late"), 0u);
  EXPECT_THAT(contents.jobs, SizeIs(2));
}

TEST_F(SqliteJournalTest, NewerSchema_IsRefusedAndUntouched) {
  Open().reset();
  RunSql(path_, "PRAGMA user_version=7");
  const std::string before = Slurp(path_);
  EXPECT_THAT(OpenSqliteJournal(path_, kNow),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr(path_), HasSubstr("version 7"),
                             HasSubstr("up to version 3"))));
  EXPECT_EQ(Slurp(path_), before);
}

// What the first Koinon made, and kept in it.
constexpr char kVersion1[] = R"sql(
PRAGMA journal_mode=WAL;
CREATE TABLE journal (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  epoch INTEGER NOT NULL,
  commits INTEGER NOT NULL
) STRICT;
INSERT INTO journal (id, epoch, commits) VALUES (1, 3, 17);
CREATE TABLE jobs (
  name TEXT NOT NULL PRIMARY KEY,
  state TEXT NOT NULL,
  reason TEXT NOT NULL,
  submitted INTEGER,
  finished INTEGER,
  spec BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE rounds (
  job TEXT NOT NULL REFERENCES jobs (name),
  round INTEGER NOT NULL CHECK (round >= 1),
  phase TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  cohort_seed TEXT NOT NULL,
  opened INTEGER,
  deadline INTEGER,
  cohort TEXT NOT NULL,
  included TEXT NOT NULL,
  report BLOB NOT NULL,
  PRIMARY KEY (job, round)
) STRICT, WITHOUT ROWID;
CREATE TABLE accepted (
  job TEXT NOT NULL,
  round INTEGER NOT NULL,
  worker TEXT NOT NULL,
  digest TEXT NOT NULL,
  spool_offset INTEGER NOT NULL,
  spool_size INTEGER NOT NULL,
  metrics BLOB NOT NULL,
  PRIMARY KEY (job, round, worker),
  FOREIGN KEY (job, round) REFERENCES rounds (job, round)
) STRICT, WITHOUT ROWID;
CREATE TABLE versions (
  job TEXT NOT NULL REFERENCES jobs (name),
  version INTEGER NOT NULL CHECK (version >= 0),
  digest TEXT NOT NULL,
  size INTEGER NOT NULL,
  manifest BLOB NOT NULL,
  PRIMARY KEY (job, version)
) STRICT, WITHOUT ROWID;
-- The specification and the manifest are protobuf messages: field 1 of the one
-- is the job's name; the other's are the job (1), the version (2) and the
-- digest.
INSERT INTO jobs VALUES
  ('digits', 'RUNNING', 'why', 1700000000123456, NULL,
   CAST(x'0a06646967697473' AS BLOB));
INSERT INTO rounds VALUES
  ('digits', 1, 'done', 1, '7', 1, 2, 'site-a site-b', 'site-a', x''),
  ('digits', 2, 'open', 2, '18446744073709551615', 3, 4, 'site-a site-b', '',
   x'');
INSERT INTO accepted VALUES
  ('digits', 2, 'site-b', '$DIGEST', 4096, 512, x'082a');
INSERT INTO versions VALUES ('digits', 1, '$DIGEST', 1000, x'$MANIFEST');
PRAGMA application_id=1265592686;
PRAGMA user_version=1;
)sql";

std::string Version1Sql() {
  v1::ModelManifest manifest;
  manifest.set_job("digits");
  manifest.set_version(1);
  manifest.set_digest(Sha256Of("x").ToBytes());
  return absl::StrReplaceAll(
      kVersion1,
      {{"$DIGEST", Sha256Of("x").ToHex()},
       {"$MANIFEST", absl::BytesToHexString(manifest.SerializeAsString())}});
}

TEST_F(SqliteJournalTest, Version1_IsBroughtUpToDateWithAllItHolds) {
  RunSql(path_, Version1Sql());
  auto journal = Open();
  ASSERT_NE(journal, nullptr);
  EXPECT_EQ(journal->epoch(), 4);
  ASSERT_OK_AND_ASSIGN(const JournalContents contents, journal->Load());
  EXPECT_EQ(contents.jobs.at("digits").reason, "why");
  const RoundRow& round = contents.rounds.at("digits").at(2);
  EXPECT_EQ(round.attempt, 2);
  EXPECT_EQ(round.cohort, (std::vector<WorkerId>{"site-a", "site-b"}));
  EXPECT_TRUE(round.carried.empty());
  const AcceptedRow& accepted =
      contents.accepted.at("digits").at(2).at("site-b");
  EXPECT_EQ(accepted.task_round, 2);  // as all did
  EXPECT_EQ(accepted.digest, Sha256Of("x"));
  EXPECT_EQ(accepted.extent, (SpoolExtent{.offset = 4096, .size = 512}));
  EXPECT_EQ(accepted.metrics.examples(), 42);
  EXPECT_TRUE(contents.folds.empty());
  EXPECT_TRUE(contents.versions.at("digits").at(1).state.empty());

  // And takes what the first could not keep.
  RoundRow carries = round;
  carries.carried = {{"site-a", 1}};
  FoldRow fold;
  fold.job = "digits";
  fold.round = 2;
  const std::vector<Mutation> mutations = {carries, fold};
  ASSERT_OK(journal->Commit(mutations));
  journal.reset();
  ASSERT_OK_AND_ASSIGN(const JournalContents again, Open()->Load());
  EXPECT_EQ(again.rounds.at("digits").at(2).carried, carries.carried);
  EXPECT_EQ(again.folds.at("digits").count(2), 1u);
}

TEST_F(SqliteJournalTest, Version2_IsBroughtUpToDate) {
  ASSERT_OK(PutJob(Open().get(), "digits", "why"));
  RunSql(path_,
         "ALTER TABLE jobs DROP COLUMN records_epoch; PRAGMA user_version=2");
  EXPECT_EQ(RecordsEpoch("digits"), 0);
  ASSERT_OK_AND_ASSIGN(const JournalContents contents, Open()->Load());
  EXPECT_EQ(contents.jobs.at("digits").reason, "why");
}

TEST_F(SqliteJournalTest, Version1_ThatCannotBeBroughtUpToDate_StaysAsItIs) {
  RunSql(path_, Version1Sql());
  // In the way of the last step.
  RunSql(path_, "CREATE TABLE folds (placeholder TEXT)");
  EXPECT_FALSE(OpenSqliteJournal(path_, kNow).ok());
  RunSql(path_, "DROP TABLE folds");
  auto journal = Open();  // nothing of the other steps was left
  ASSERT_NE(journal, nullptr);
  ASSERT_OK_AND_ASSIGN(const JournalContents contents, journal->Load());
  EXPECT_EQ(contents.accepted.at("digits").at(2).at("site-b").task_round, 2);
}

TEST_F(SqliteJournalTest, ForeignDatabase_IsRefusedAndUntouched) {
  RunSql(path_, "CREATE TABLE t (x); INSERT INTO t VALUES (1)");
  const std::string before = Slurp(path_);
  EXPECT_THAT(OpenSqliteJournal(path_, kNow),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("not a Koinon journal")));
  EXPECT_EQ(Slurp(path_), before);
}

TEST_F(SqliteJournalTest, NotADatabase_IsDataLossThatNamesTheFile) {
  Spill(path_, std::string(8192, 'x'));
  EXPECT_THAT(OpenSqliteJournal(path_, kNow),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr(path_)));
}

TEST_F(SqliteJournalTest, UnreachablePath_NamesTheFile) {
  const std::string path = dir_ + "/missing/journal.db";
  EXPECT_THAT(OpenSqliteJournal(path, kNow),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr(path)));
}

TEST_F(SqliteJournalTest, CorruptPage_IsDetectedAtOpen) {
  {
    auto journal = Open();
    for (int i = 0; i < 50; ++i) {
      ASSERT_OK(PutJob(journal.get(), absl::StrCat("job-", i),
                       std::string(1000, 'r')));
    }
  }
  std::string bytes = Slurp(path_);
  constexpr size_t kPage = 4096;
  ASSERT_GT(bytes.size(), 8 * kPage);
  // The headers of all pages but the first, which holds the schema.
  for (size_t page = 1; page < bytes.size() / kPage; ++page) {
    bytes[page * kPage] = '\x77';
  }
  Spill(path_, bytes);
  EXPECT_THAT(OpenSqliteJournal(path_, kNow),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr(path_)));
}

TEST_F(SqliteJournalTest, RowThatCannotBeParsed_IsDataLossThatNamesIt) {
  {
    auto journal = Open();
    ASSERT_OK(PutJob(journal.get(), "digits"));
  }
  RunSql(path_, "UPDATE jobs SET spec = x'ffffffff'");
  EXPECT_THAT(Open()->Load(),
              StatusIs(absl::StatusCode::kDataLoss,
                       AllOf(HasSubstr(path_), HasSubstr("job digits"))));
  RunSql(path_, "UPDATE jobs SET state = 'DREAMING'");
  EXPECT_THAT(Open()->Load(),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("DREAMING")));
}

TEST_F(SqliteJournalTest, Full_IsResourceExhaustedAndRolledBack) {
  ASSERT_OK_AND_ASSIGN(
      auto journal, OpenSqliteJournal(path_, kNow, {.max_bytes = 256 << 10}));
  ASSERT_OK(PutJob(journal.get(), "small"));
  EXPECT_THAT(PutJob(journal.get(), "large", std::string(1 << 20, 'x')),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr(path_)));
  EXPECT_OK(PutJob(journal.get(), "next"));
  ASSERT_OK_AND_ASSIGN(const JournalContents contents, journal->Load());
  EXPECT_THAT(contents.jobs, SizeIs(2));
  EXPECT_EQ(contents.jobs.count("large"), 0u);
}

// The files of a live journal, as a crash would leave them, with only the first
// `wal_bytes` of its log.
void CopyCrashed(const std::string& from, const std::string& to,
                 size_t wal_bytes) {
  Spill(to, Slurp(from));
  Spill(to + "-mark", Slurp(from + "-mark"));
  Spill(to + "-wal", Slurp(from + "-wal").substr(0, wal_bytes));
}

TEST_F(SqliteJournalTest, TruncatedLog_IsDetectedAtOpen) {
  auto journal = Open();
  for (int i = 0; i < 10; ++i) {
    ASSERT_OK(PutJob(journal.get(), absl::StrCat("job-", i)));
  }
  const size_t size = Slurp(path_ + "-wal").size();
  ASSERT_GT(size, 10u * 4096);
  // Whole, it opens.
  const std::string whole = dir_ + "/whole.db";
  CopyCrashed(path_, whole, size);
  ASSERT_OK_AND_ASSIGN(auto copy, OpenSqliteJournal(whole, kNow));
  ASSERT_OK_AND_ASSIGN(const JournalContents contents, copy->Load());
  EXPECT_THAT(contents.jobs, SizeIs(10));
  // Cut, it does not. (Cut to nothing, not even the tables may be left; either
  // way nothing passes for whole.)
  for (const size_t keep : {size - 1, size / 2, size_t{32}, size_t{0}}) {
    const std::string cut = absl::StrCat(dir_, "/cut-", keep, ".db");
    CopyCrashed(path_, cut, keep);
    EXPECT_THAT(OpenSqliteJournal(cut, kNow),
                StatusIs(absl::StatusCode::kDataLoss,
                         AllOf(HasSubstr(cut), HasSubstr("-mark"))))
        << keep;
  }
}

TEST_F(SqliteJournalTest, BitFlipInTheLog_IsDetectedAtOpen) {
  auto journal = Open();
  for (int i = 0; i < 10; ++i) {
    ASSERT_OK(PutJob(journal.get(), absl::StrCat("job-", i)));
  }
  const std::string wal = Slurp(path_ + "-wal");
  for (size_t at = wal.size() / 3; at < wal.size(); at += wal.size() / 5) {
    const std::string flipped = absl::StrCat(dir_, "/flip-", at, ".db");
    CopyCrashed(path_, flipped, wal.size());
    std::string bytes = wal;
    bytes[at] ^= 1;
    Spill(flipped + "-wal", bytes);
    EXPECT_THAT(OpenSqliteJournal(flipped, kNow),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr(flipped)))
        << at;
  }
}

TEST_F(SqliteJournalTest, OlderCopyPutBack_NeedsTheMarkRemoved) {
  Open().reset();
  const std::string backup = Slurp(path_);
  {
    auto journal = Open();
    ASSERT_OK(PutJob(journal.get(), "digits"));
  }
  Spill(path_, backup);
  EXPECT_THAT(OpenSqliteJournal(path_, kNow),
              StatusIs(absl::StatusCode::kDataLoss,
                       HasSubstr("remove " + path_ + "-mark")));
  RemoveMark();
  EXPECT_OK(OpenSqliteJournal(path_, kNow));
}

// That a copy shall live stands for as long as the copy does, whatever becomes
// of the start in which it was said.
TEST_F(SqliteJournalTest, WithoutItsMark_EachJobGetsAnEpochForGood) {
  ASSERT_OK(PutJob(Open().get(), "before"));
  EXPECT_EQ(RecordsEpoch("before"), 0);
  RemoveMark();
  Open().reset();  // and nothing came of this start
  EXPECT_EQ(RecordsEpoch("before"), kNowMs);
  ASSERT_OK_AND_ASSIGN(auto later,
                       OpenSqliteJournal(path_, kNow + absl::Hours(1)));
  ASSERT_OK(PutJob(later.get(), "after"));
  later.reset();
  EXPECT_EQ(RecordsEpoch("before"), kNowMs);
  EXPECT_EQ(RecordsEpoch("after"), 0);
}

TEST_F(SqliteJournalTest, WithoutItsMarkAgain_TheEpochGrows) {
  ASSERT_OK(PutJob(Open().get(), "digits"));
  int64_t last = 0;
  // Also where the clock was set back, or is behind the submission.
  for (const absl::Duration late : {absl::ZeroDuration(), absl::ZeroDuration(),
                                    -absl::Hours(1), absl::Hours(1)}) {
    RemoveMark();
    EXPECT_OK(OpenSqliteJournal(path_, kNow + late));
    const int64_t epoch = RecordsEpoch("digits");
    EXPECT_GT(epoch, last);
    EXPECT_GE(epoch, absl::ToUnixMillis(kNow + late));
    last = epoch;
  }
  EXPECT_EQ(last, absl::ToUnixMillis(kNow + absl::Hours(1)));
  JobRow ahead = MakeJob("ahead");
  ahead.submitted = kNow + absl::Hours(2);
  JobRow greatest = MakeJob("greatest");
  greatest.records_epoch = std::numeric_limits<int64_t>::max();
  const std::vector<Mutation> rows = {ahead, greatest};
  ASSERT_OK(Open()->Commit(rows));
  RemoveMark();
  EXPECT_OK(OpenSqliteJournal(path_, kNow));
  EXPECT_GT(RecordsEpoch("ahead"), absl::ToUnixMillis(ahead.submitted));
  EXPECT_EQ(RecordsEpoch("greatest"), greatest.records_epoch);
}

TEST_F(SqliteJournalTest, WithoutItsMarkAndNotOpened_StaysWithoutIt) {
  RunSql(path_, Version1Sql());
  RunSql(path_, "CREATE TABLE folds (placeholder TEXT)");  // in the way
  EXPECT_FALSE(OpenSqliteJournal(path_, kNow).ok());
  RunSql(path_, "DROP TABLE folds");
  EXPECT_EQ(RecordsEpoch("digits"), kNowMs);
}

TEST_F(SqliteJournalTest, CopyWithItsMark_GetsNoEpoch) {
  ASSERT_OK(PutJob(Open().get(), "digits"));
  const std::string copy = MakeDir() + "/journal.db";
  for (const char* part : {"", "-mark"}) {
    Spill(copy + part, Slurp(path_ + part));
  }
  ASSERT_OK_AND_ASSIGN(const auto opened, OpenSqliteJournal(copy, kNow));
  ASSERT_OK_AND_ASSIGN(const JournalContents contents, opened->Load());
  EXPECT_EQ(contents.jobs.at("digits").records_epoch, 0);
}

TEST_F(SqliteJournalTest, MarkNotWhole_AsAfterAPowerLoss_IsNoError) {
  Open().reset();
  for (const std::string& mark :
       {std::string(), std::string(21, '\0'), std::string("0000")}) {
    Spill(path_ + "-mark", mark);
    EXPECT_OK(OpenSqliteJournal(path_, kNow));
  }
}

// Runs `body` in a child process; returns its pid.
template <typename Body>
pid_t Fork(Body body) {
  const pid_t pid = fork();
  if (pid == 0) {
    body();
    _exit(0);
  }
  return pid;
}

// What one child acknowledged before it was killed.
int64_t KillAfter(const std::string& path, int64_t first, int64_t commits) {
  int fds[2];
  EXPECT_EQ(pipe(fds), 0);
  const pid_t child = Fork([&] {
    close(fds[0]);
    auto journal = OpenSqliteJournal(path, kNow);
    if (!journal.ok()) _exit(1);
    for (int64_t i = first;; ++i) {
      const std::vector<Mutation> mutations = {MakeJob(absl::StrCat("a-", i)),
                                               MakeJob(absl::StrCat("b-", i))};
      if (!(*journal)->Commit(mutations).ok()) _exit(2);
      if (write(fds[1], &i, sizeof(i)) != sizeof(i)) _exit(3);
    }
  });
  close(fds[1]);
  int64_t acknowledged = first - 1;
  for (int64_t n = 0; n < commits; ++n) {
    if (read(fds[0], &acknowledged, sizeof(acknowledged)) <= 0) break;
  }
  kill(child, SIGKILL);
  // What it acknowledged between the last read and the kill counts too.
  int64_t more;
  while (read(fds[0], &more, sizeof(more)) == sizeof(more)) acknowledged = more;
  close(fds[0]);
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status)) << "the child ended by itself: " << status;
  return acknowledged;
}

TEST_F(SqliteJournalTest, KillNine_AmidCommits_LosesNothingAcknowledged) {
  int64_t next = 1;
  for (int64_t kill = 0; kill < 20; ++kill) {
    const int64_t acknowledged = KillAfter(path_, next, 1 + 7 * kill % 23);
    auto journal = Open();
    ASSERT_NE(journal, nullptr);
    EXPECT_EQ(journal->epoch(), 2 * (kill + 1));
    ASSERT_OK_AND_ASSIGN(const JournalContents contents, journal->Load());
    for (int64_t i = 1; i <= acknowledged; ++i) {
      ASSERT_EQ(contents.jobs.count(absl::StrCat("a-", i)), 1u) << i;
      ASSERT_EQ(contents.jobs.count(absl::StrCat("b-", i)), 1u) << i;
    }
    // At most the one commit that nobody was told of, and that one whole.
    ASSERT_EQ(contents.jobs.size() % 2, 0u);
    const int64_t pairs = static_cast<int64_t>(contents.jobs.size() / 2);
    EXPECT_LE(pairs, acknowledged + 1);
    next = pairs + 1;
  }
}

TEST_F(SqliteJournalTest, WriteError_IsDataLossAndFinal) {
  const pid_t child = Fork([&] {
    auto journal = OpenSqliteJournal(path_, kNow);
    if (!journal.ok()) _exit(1);
    // Files cannot grow any further: write() fails with EFBIG, not ENOSPC.
    signal(SIGXFSZ, SIG_IGN);
    rlimit limit = {1 << 16, 1 << 16};
    setrlimit(RLIMIT_FSIZE, &limit);
    absl::Status status;
    for (int i = 0; i < 100 && status.ok(); ++i) {
      status = PutJob(journal->get(), "digits", std::string(5000, 'x'));
    }
    if (!absl::IsDataLoss(status)) _exit(2);
    // Even if the disk worked again, this process must not go on.
    _exit(absl::IsDataLoss(PutJob(journal->get(), "next")) ? 0 : 3);
  });
  int status = 0;
  waitpid(child, &status, 0);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_OK(Open()->Load());
}

TEST_F(SqliteJournalTest, OperatorsColumns_AreReadable) {
  {
    auto journal = Open();
    RoundRow round;
    round.job = "digits";
    round.round = 1;
    round.cohort_seed = ~uint64_t{0};
    round.cohort = {"site-a", "site-b"};
    AcceptedRow accepted;
    accepted.job = "digits";
    accepted.round = 1;
    accepted.task_round = 1;
    accepted.worker = "site-b";
    accepted.digest = Sha256Of("x");
    const std::vector<Mutation> mutations = {MakeJob("digits"), round,
                                             accepted};
    ASSERT_OK(journal->Commit(mutations));
  }
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open_v2(path_.c_str(), &db, SQLITE_OPEN_READONLY, nullptr),
            SQLITE_OK);
  std::string row;
  const auto append = [](void* out, int columns, char** values, char**) {
    for (int i = 0; i < columns; ++i) {
      absl::StrAppend(static_cast<std::string*>(out), values[i], "|");
    }
    return 0;
  };
  EXPECT_EQ(sqlite3_exec(db,
                         "SELECT jobs.state, phase, cohort_seed, cohort, "
                         "worker, digest FROM jobs "
                         "JOIN rounds ON rounds.job = jobs.name "
                         "JOIN accepted USING (job, round)",
                         append, &row, nullptr),
            SQLITE_OK);
  sqlite3_close(db);
  EXPECT_EQ(row, absl::StrCat("RUNNING|open|18446744073709551615|site-a "
                              "site-b|site-b|",
                              Sha256Of("x").ToHex(), "|"));
}

}  // namespace
}  // namespace koinon::coordinator
