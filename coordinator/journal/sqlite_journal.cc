#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "base/env.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "coordinator/journal/commit_mark.h"
#include "coordinator/journal/journal.h"
#include "coordinator/journal/rows.h"
#include "coordinator/journal/sqlite_database.h"
#include "coordinator/journal/sqlite_load.h"
#include "coordinator/journal/sqlite_schema.h"

namespace koinon::coordinator {
namespace {

constexpr int64_t kPageBytes = 4096;
// Below this not even the tables fit.
constexpr int64_t kMinPages = 32;

struct Statements {
  Statement begin, commit, advance, put_job, put_round, put_accepted,
      find_accepted, put_fold, forget_round, forget_fold, forget_accepted,
      put_version, forget_version;
};

absl::StatusOr<Statements> PrepareStatements(Database* db) {
  Statements s;
  const std::pair<Statement*, absl::string_view> sources[] = {
      {&s.begin, "BEGIN IMMEDIATE"},
      {&s.commit, "COMMIT"},
      {&s.advance,
       "UPDATE journal SET commits = commits + 1 WHERE epoch = ?1 "
       "RETURNING commits"},
      {&s.put_job,
       "INSERT INTO jobs (name, state, reason, submitted, finished, spec, "
       "records_epoch) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) "
       "ON CONFLICT DO UPDATE SET state = ?2, reason = ?3, submitted = ?4, "
       "finished = ?5, spec = ?6, records_epoch = ?7"},
      {&s.put_round,
       "INSERT INTO rounds (job, round, phase, attempt, cohort_seed, opened, "
       "deadline, cohort, included, report, carried) "
       "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) "
       "ON CONFLICT DO UPDATE SET phase = ?3, attempt = ?4, cohort_seed = ?5, "
       "opened = ?6, deadline = ?7, cohort = ?8, included = ?9, report = ?10, "
       "carried = ?11"},
      {&s.put_accepted,
       "INSERT INTO accepted (job, round, worker, digest, spool_offset, "
       "spool_size, metrics, task_round) "
       "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) "
       "ON CONFLICT DO NOTHING"},
      {&s.find_accepted,
       "SELECT digest FROM accepted "
       "WHERE job = ?1 AND round = ?2 AND worker = ?3"},
      {&s.put_fold,
       "INSERT INTO folds (job, round, spool_offset, spool_size, digest) "
       "VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO UPDATE SET "
       "spool_offset = ?3, spool_size = ?4, digest = ?5"},
      {&s.forget_fold, "DELETE FROM folds WHERE job = ?1 AND round = ?2"},
      {&s.forget_round, "DELETE FROM accepted WHERE job = ?1 AND round = ?2"},
      {&s.forget_accepted,
       "DELETE FROM accepted WHERE job = ?1 AND round = ?2 AND worker = ?3"},
      {&s.put_version,
       "INSERT INTO versions (job, version, digest, size, manifest, state) "
       "VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE SET "
       "digest = ?3, size = ?4, manifest = ?5, state = ?6"},
      {&s.forget_version,
       "DELETE FROM versions WHERE job = ?1 AND version = ?2"},
  };
  for (const auto& [statement, sql] : sources) {
    ABSL_ASSIGN_OR_RETURN(*statement, db->Prepare(sql));
  }
  return s;
}

void BindTime(Statement* statement, int index, absl::Time time) {
  const StoredTime stored = StoreTime(time);
  if (stored.is_null) {
    statement->BindNull(index);
  } else {
    statement->BindInt(index, stored.micros);
  }
}

// Writes one mutation inside the open transaction.
class Write {
 public:
  explicit Write(Statements* statements, Database* db)
      : s_(*statements), db_(*db) {}

  absl::Status operator()(const JobRow& row) {
    Statement& s = s_.put_job;
    s.BindText(1, row.spec.name());
    s.BindText(2, v1::JobState_Name(row.state));
    s.BindText(3, row.reason);
    BindTime(&s, 4, row.submitted);
    BindTime(&s, 5, row.finished);
    s.BindBlob(6, row.spec.SerializeAsString());
    s.BindInt(7, row.records_epoch);
    return s.Run();
  }

  absl::Status operator()(const RoundRow& row) {
    Statement& s = s_.put_round;
    s.BindText(1, row.job);
    s.BindInt(2, row.round);
    s.BindText(3, RoundPhaseName(row.phase));
    s.BindInt(4, row.attempt);
    s.BindText(5, absl::StrCat(row.cohort_seed));
    BindTime(&s, 6, row.opened);
    BindTime(&s, 7, row.deadline);
    s.BindText(8, JoinWorkers(row.cohort));
    s.BindText(9, JoinWorkers(row.included));
    s.BindBlob(10, row.report.SerializeAsString());
    s.BindText(11, JoinCarried(row.carried));
    return s.Run();
  }

  absl::Status operator()(const AcceptedRow& row) {
    Statement& s = s_.put_accepted;
    s.BindText(1, row.job);
    s.BindInt(2, row.round);
    s.BindText(3, row.worker);
    s.BindText(4, row.digest.ToHex());
    s.BindInt(5, static_cast<int64_t>(row.extent.offset));
    s.BindInt(6, static_cast<int64_t>(row.extent.size));
    s.BindBlob(7, row.metrics.SerializeAsString());
    s.BindInt(8, row.task_round);
    ABSL_RETURN_IF_ERROR(s.Run());
    return db_.ChangedRows() > 0 ? absl::OkStatus() : CheckSameDigest(row);
  }

  absl::Status operator()(const FoldRow& row) {
    Statement& s = s_.put_fold;
    s.BindText(1, row.job);
    s.BindInt(2, row.round);
    s.BindInt(3, static_cast<int64_t>(row.extent.offset));
    s.BindInt(4, static_cast<int64_t>(row.extent.size));
    s.BindText(5, row.digest.ToHex());
    return s.Run();
  }

  absl::Status operator()(const ForgetAccepted& forget) {
    if (forget.worker.empty()) {
      s_.forget_fold.BindText(1, forget.job);
      s_.forget_fold.BindInt(2, forget.round);
      ABSL_RETURN_IF_ERROR(s_.forget_fold.Run());
    }
    Statement& s = forget.worker.empty() ? s_.forget_round : s_.forget_accepted;
    s.BindText(1, forget.job);
    s.BindInt(2, forget.round);
    if (!forget.worker.empty()) s.BindText(3, forget.worker);
    return s.Run();
  }

  absl::Status operator()(const VersionRow& row) {
    ABSL_ASSIGN_OR_RETURN(const Digest digest,
                          Digest::FromBytes(row.manifest.digest()));
    Statement& s = s_.put_version;
    s.BindText(1, row.manifest.job());
    s.BindInt(2, row.manifest.version());
    s.BindText(3, digest.ToHex());
    s.BindInt(4, row.manifest.size_bytes());
    s.BindBlob(5, row.manifest.SerializeAsString());
    s.BindText(6, JoinStateFiles(row.state));
    return s.Run();
  }

  absl::Status operator()(const ForgetVersion& forget) {
    Statement& s = s_.forget_version;
    s.BindText(1, forget.job);
    s.BindInt(2, forget.version);
    return s.Run();
  }

 private:
  absl::Status CheckSameDigest(const AcceptedRow& row) {
    Statement& s = s_.find_accepted;
    s.BindText(1, row.job);
    s.BindInt(2, row.round);
    s.BindText(3, row.worker);
    ABSL_ASSIGN_OR_RETURN(const bool found, s.Step());
    const std::string digest = found ? s.Bytes(0) : "";
    s.Reset();
    if (digest == row.digest.ToHex()) return absl::OkStatus();
    return absl::AlreadyExistsError(absl::StrCat(
        DescribeKey(row), " has digest ", digest.substr(0, 12),
        "; another with ", row.digest.ToShortHex(), " is refused"));
  }

  Statements& s_;
  Database& db_;
};

class SqliteJournal final : public Journal {
 public:
  SqliteJournal(std::unique_ptr<Database> db, Statements statements,
                CommitMark mark, int64_t epoch)
      : db_(std::move(db)),
        statements_(std::move(statements)),
        mark_(std::move(mark)),
        epoch_(epoch) {}

  absl::Status Commit(absl::Span<const Mutation> mutations) override {
    ABSL_RETURN_IF_ERROR(dead_);
    for (const Mutation& mutation : mutations) {
      ABSL_RETURN_IF_ERROR(CheckMutation(mutation));
    }
    int64_t commits = 0;
    absl::Status status = WriteAll(mutations, &commits);
    if (status.ok()) {
      mark_.Write(commits);
      return status;
    }
    if (db_->InTransaction()) {
      const absl::Status rolled_back = db_->Execute("ROLLBACK");
      if (!rolled_back.ok())
        status = absl::DataLossError(absl::StrCat(
            status.message(), "; and then: ", rolled_back.message()));
    }
    if (absl::IsDataLoss(status) || absl::IsFailedPrecondition(status)) {
      dead_ = status;
    }
    return status;
  }

  absl::StatusOr<JournalContents> Load() override {
    return LoadJournal(db_.get());
  }

  int64_t epoch() const override { return epoch_; }

 private:
  absl::Status WriteAll(absl::Span<const Mutation> mutations,
                        int64_t* commits) {
    ABSL_RETURN_IF_ERROR(statements_.begin.Run());
    ABSL_ASSIGN_OR_RETURN(*commits, Advance());
    Write write(&statements_, db_.get());
    for (const Mutation& mutation : mutations) {
      ABSL_RETURN_IF_ERROR(std::visit(write, mutation));
    }
    return statements_.commit.Run();
  }

  // Counts this commit, if the journal is still ours.
  absl::StatusOr<int64_t> Advance() {
    Statement& s = statements_.advance;
    s.BindInt(1, epoch_);
    ABSL_ASSIGN_OR_RETURN(const bool ours, s.Step());
    const int64_t commits = ours ? s.Int(0) : 0;
    s.Reset();
    if (ours) return commits;
    ABSL_ASSIGN_OR_RETURN(const int64_t epoch,
                          db_->QueryInt("SELECT epoch FROM journal"));
    return absl::FailedPreconditionError(absl::StrCat(
        db_->path(), " has been opened by another coordinator (epoch ", epoch,
        ") since this one opened it (epoch ", epoch_, ")"));
  }

  const std::unique_ptr<Database> db_;
  Statements statements_;
  CommitMark mark_;
  const int64_t epoch_;
  // Why nothing can be committed any more.
  absl::Status dead_;
};

absl::Status CheckMark(Database* db, bool fresh, const CommitMark& mark) {
  int64_t commits = 0;
  if (!fresh) {
    ABSL_ASSIGN_OR_RETURN(commits, db->QueryInt("SELECT commits FROM journal"));
  }
  if (commits >= mark.commits()) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(
      db->path(), " has ", commits, " commits, but there were ", mark.commits(),
      ", says ", mark.path(),
      ": its write-ahead log was cut short or removed, or an older copy was "
      "put in its place. To go on with this copy, knowing that, remove ",
      mark.path()));
}

// What says that the copy shall live goes into the commit that begins its
// life, and only then is there a mark: a start that comes to nothing before it
// is one that was not, after it the fact stands.
constexpr char kBeginLife[] =
    "UPDATE jobs SET records_epoch = max(?1, "
    "coalesce(submitted, 0) / 1000 + 1, "
    "min(records_epoch, 9223372036854775806) + 1)";

absl::Status BeginLife(Database* db, absl::Time now) {
  ABSL_ASSIGN_OR_RETURN(Statement restore, db->Prepare(kBeginLife));
  restore.BindInt(1, absl::ToUnixMillis(now));
  ABSL_RETURN_IF_ERROR(restore.Run());
  LogWarning(
      "the journal has no mark: its state was put in place on purpose, and "
      "what it stores of its jobs counts from now on",
      {{"file", db->path()}, {"jobs", db->ChangedRows()}});
  return absl::OkStatus();
}

// The new epoch.
absl::StatusOr<int64_t> BeginEpoch(Database* db, bool fresh, absl::Time now,
                                   CommitMark* mark) {
  ABSL_RETURN_IF_ERROR(db->Execute(
      "BEGIN IMMEDIATE;"
      "UPDATE journal SET epoch = epoch + 1, commits = commits + 1;"));
  if (!fresh && !mark->exists()) ABSL_RETURN_IF_ERROR(BeginLife(db, now));
  ABSL_ASSIGN_OR_RETURN(const int64_t epoch,
                        db->QueryInt("SELECT epoch FROM journal"));
  ABSL_ASSIGN_OR_RETURN(const int64_t commits,
                        db->QueryInt("SELECT commits FROM journal"));
  ABSL_RETURN_IF_ERROR(db->Execute("COMMIT"));
  ABSL_RETURN_IF_ERROR(mark->Create());
  mark->Write(commits);
  return epoch;
}

std::string DirectoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Journal>> OpenSqliteJournal(
    const std::string& path, absl::Time now, SqliteJournalOptions options) {
  ABSL_ASSIGN_OR_RETURN(std::unique_ptr<Database> db, Database::Open(path));
  // Until it is known to be whole and ours, its files stay as they are.
  db->SetCheckpointOnClose(false);
  ABSL_ASSIGN_OR_RETURN(const bool fresh, InspectJournalDatabase(db.get()));
  ABSL_ASSIGN_OR_RETURN(CommitMark mark,
                        CommitMark::Open(RealEnv(), path + "-mark"));
  ABSL_RETURN_IF_ERROR(CheckMark(db.get(), fresh, mark));
  ABSL_RETURN_IF_ERROR(PrepareJournalDatabase(db.get(), fresh));
  db->SetCheckpointOnClose(true);
  if (options.max_bytes > 0) {
    const int64_t pages = std::max(kMinPages, options.max_bytes / kPageBytes);
    ABSL_RETURN_IF_ERROR(
        db->Execute(absl::StrCat("PRAGMA max_page_count=", pages)));
  }
  ABSL_ASSIGN_OR_RETURN(const int64_t epoch,
                        BeginEpoch(db.get(), fresh, now, &mark));
  ABSL_RETURN_IF_ERROR(RealEnv()->SyncDir(DirectoryOf(path)));
  ABSL_ASSIGN_OR_RETURN(Statements statements, PrepareStatements(db.get()));
  return std::make_unique<SqliteJournal>(std::move(db), std::move(statements),
                                         std::move(mark), epoch);
}

}  // namespace koinon::coordinator
