#include "coordinator/journal/sqlite_schema.h"

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace koinon::coordinator {
namespace {

constexpr char kCreateTables[] = R"sql(
CREATE TABLE journal (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  epoch INTEGER NOT NULL,
  commits INTEGER NOT NULL
) STRICT;
INSERT INTO journal (id, epoch, commits) VALUES (1, 0, 0);

CREATE TABLE jobs (
  name TEXT NOT NULL PRIMARY KEY,
  state TEXT NOT NULL,
  reason TEXT NOT NULL,
  submitted INTEGER,
  finished INTEGER,
  spec BLOB NOT NULL,
  records_epoch INTEGER NOT NULL DEFAULT 0
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
  carried TEXT NOT NULL DEFAULT '',
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
  task_round INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (job, round, worker),
  FOREIGN KEY (job, round) REFERENCES rounds (job, round)
) STRICT, WITHOUT ROWID;

CREATE TABLE versions (
  job TEXT NOT NULL REFERENCES jobs (name),
  version INTEGER NOT NULL CHECK (version >= 0),
  digest TEXT NOT NULL,
  size INTEGER NOT NULL,
  manifest BLOB NOT NULL,
  state TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (job, version)
) STRICT, WITHOUT ROWID;
)sql";

constexpr char kCreateFolds[] = R"sql(
CREATE TABLE folds (
  job TEXT NOT NULL,
  round INTEGER NOT NULL,
  spool_offset INTEGER NOT NULL,
  spool_size INTEGER NOT NULL,
  digest TEXT NOT NULL,
  PRIMARY KEY (job, round),
  FOREIGN KEY (job, round) REFERENCES rounds (job, round)
) STRICT, WITHOUT ROWID;
)sql";

constexpr char kFromVersion1[] = R"sql(
ALTER TABLE rounds ADD COLUMN carried TEXT NOT NULL DEFAULT '';
ALTER TABLE accepted ADD COLUMN task_round INTEGER NOT NULL DEFAULT 0;
UPDATE accepted SET task_round = round;
ALTER TABLE versions ADD COLUMN state TEXT NOT NULL DEFAULT '';
)sql";

constexpr char kFromVersion2[] = R"sql(
ALTER TABLE jobs ADD COLUMN records_epoch INTEGER NOT NULL DEFAULT 0;
)sql";

absl::Status SetDurability(Database* database) {
  ABSL_ASSIGN_OR_RETURN(const std::string mode,
                        database->QueryText("PRAGMA journal_mode=WAL"));
  if (mode != "wal") {
    return absl::FailedPreconditionError(absl::StrCat(
        database->path(), ": SQLite cannot use a write-ahead log here (", mode,
        " instead): is it a network file system?"));
  }
  return database->Execute(
      "PRAGMA synchronous=FULL;"
      "PRAGMA foreign_keys=ON;"
      "PRAGMA cell_size_check=ON;");
}

absl::Status CheckPages(Database* database) {
  ABSL_ASSIGN_OR_RETURN(const std::string verdict,
                        database->QueryText("PRAGMA quick_check(1)"));
  if (verdict == "ok") return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat(database->path(), " is corrupt: ", verdict));
}

absl::Status CreateTables(Database* database) {
  return database->Execute(
      absl::StrCat("BEGIN IMMEDIATE;", kCreateTables, kCreateFolds,
                   "PRAGMA application_id=", kJournalApplicationId,
                   ";PRAGMA user_version=", kJournalSchemaVersion, ";COMMIT;"));
}

absl::Status Migrate(Database* database) {
  ABSL_ASSIGN_OR_RETURN(const int64_t version,
                        database->QueryInt("PRAGMA user_version"));
  if (version == kJournalSchemaVersion) return absl::OkStatus();
  const std::string to_version_2 =
      version == 1 ? absl::StrCat(kFromVersion1, kCreateFolds) : std::string();
  return database->Execute(
      absl::StrCat("BEGIN IMMEDIATE;", to_version_2, kFromVersion2,
                   "PRAGMA user_version=", kJournalSchemaVersion, ";COMMIT;"));
}

}  // namespace

absl::StatusOr<bool> InspectJournalDatabase(Database* database) {
  ABSL_ASSIGN_OR_RETURN(const int64_t application,
                        database->QueryInt("PRAGMA application_id"));
  ABSL_ASSIGN_OR_RETURN(const int64_t version,
                        database->QueryInt("PRAGMA user_version"));
  ABSL_ASSIGN_OR_RETURN(const int64_t objects,
                        database->QueryInt("SELECT count(*) FROM "
                                           "sqlite_schema"));
  if (application == 0 && version == 0 && objects == 0) return true;
  if (application != kJournalApplicationId) {
    return absl::FailedPreconditionError(
        absl::StrCat(database->path(),
                     " is a SQLite database, but not a Koinon journal "
                     "(application id ",
                     application, ", expected ", kJournalApplicationId, ")"));
  }
  if (version > kJournalSchemaVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat(database->path(),
                     " was written by a newer Koinon: its schema is "
                     "version ",
                     version, ", this one knows up to version ",
                     kJournalSchemaVersion, "; nothing was changed"));
  }
  if (version < 1) {
    return absl::DataLossError(absl::StrCat(database->path(),
                                            " has schema version ", version,
                                            ", which no Koinon ever wrote"));
  }
  return false;
}

absl::Status PrepareJournalDatabase(Database* database, bool fresh) {
  ABSL_RETURN_IF_ERROR(SetDurability(database));
  if (fresh) return CreateTables(database);
  ABSL_RETURN_IF_ERROR(CheckPages(database));
  return Migrate(database);
}

}  // namespace koinon::coordinator
