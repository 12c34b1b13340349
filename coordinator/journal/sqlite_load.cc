#include "coordinator/journal/sqlite_load.h"

#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "coordinator/journal/rows.h"

namespace koinon::coordinator {
namespace {

absl::Status Broken(const Database& db, absl::string_view row,
                    absl::string_view what) {
  return absl::DataLossError(absl::StrCat(db.path(), ": ", row, ": ", what));
}

// OK, or the row's mistake as a loss of data.
absl::Status AsLoss(const Database& db, absl::string_view row,
                    const absl::Status& status) {
  return status.ok() ? status : Broken(db, row, status.message());
}

absl::Time TimeAt(const Statement& s, int column) {
  return LoadTime({.is_null = s.IsNull(column), .micros = s.Int(column)});
}

absl::Status ReadJob(const Database& db, const Statement& s,
                     JournalContents* contents) {
  const std::string name = s.Bytes(0);
  const std::string what = absl::StrCat("job ", name);
  JobRow row;
  if (!v1::JobState_Parse(s.Bytes(1), &row.state)) {
    return Broken(db, what, absl::StrCat("unknown state ", s.Bytes(1)));
  }
  row.reason = s.Bytes(2);
  row.submitted = TimeAt(s, 3);
  row.finished = TimeAt(s, 4);
  if (!row.spec.ParseFromString(s.Bytes(5)) || row.spec.name() != name) {
    return Broken(db, what, "its spec is not that of this job");
  }
  row.records_epoch = s.Int(6);
  ABSL_RETURN_IF_ERROR(AsLoss(db, what, CheckMutation(row)));
  contents->jobs[name] = std::move(row);
  return absl::OkStatus();
}

absl::Status ReadRound(const Database& db, const Statement& s,
                       JournalContents* contents) {
  RoundRow row;
  row.job = s.Bytes(0);
  row.round = s.Int(1);
  const std::string what = absl::StrCat("round ", row.job, "/", row.round);
  const absl::StatusOr<RoundPhase> phase = RoundPhaseFromName(s.Bytes(2));
  ABSL_RETURN_IF_ERROR(AsLoss(db, what, phase.status()));
  row.phase = *phase;
  row.attempt = s.Int(3);
  if (!absl::SimpleAtoi(s.Bytes(4), &row.cohort_seed)) {
    return Broken(db, what, absl::StrCat("cohort seed ", s.Bytes(4)));
  }
  row.opened = TimeAt(s, 5);
  row.deadline = TimeAt(s, 6);
  row.cohort = SplitWorkers(s.Bytes(7));
  row.included = SplitWorkers(s.Bytes(8));
  if (!row.report.ParseFromString(s.Bytes(9))) {
    return Broken(db, what, "its report cannot be parsed");
  }
  auto carried = SplitCarried(s.Bytes(10));
  ABSL_RETURN_IF_ERROR(AsLoss(db, what, carried.status()));
  row.carried = *std::move(carried);
  ABSL_RETURN_IF_ERROR(AsLoss(db, what, CheckMutation(row)));
  contents->rounds[row.job][row.round] = row;
  return absl::OkStatus();
}

absl::Status ReadAccepted(const Database& db, const Statement& s,
                          JournalContents* contents) {
  AcceptedRow row;
  row.job = s.Bytes(0);
  row.round = s.Int(1);
  row.worker = s.Bytes(2);
  const std::string what = DescribeKey(row);
  const absl::StatusOr<Digest> digest = Digest::FromHex(s.Bytes(3));
  ABSL_RETURN_IF_ERROR(AsLoss(db, what, digest.status()));
  row.digest = *digest;
  if (s.Int(4) < 0 || s.Int(5) < 0) {
    return Broken(db, what, "its spool extent is negative");
  }
  row.extent.offset = static_cast<uint64_t>(s.Int(4));
  row.extent.size = static_cast<uint64_t>(s.Int(5));
  if (!row.metrics.ParseFromString(s.Bytes(6))) {
    return Broken(db, what, "its metrics cannot be parsed");
  }
  row.task_round = s.Int(7);
  ABSL_RETURN_IF_ERROR(AsLoss(db, what, CheckMutation(row)));
  contents->accepted[row.job][row.round][row.worker] = row;
  return absl::OkStatus();
}

absl::Status ReadFold(const Database& db, const Statement& s,
                      JournalContents* contents) {
  FoldRow row;
  row.job = s.Bytes(0);
  row.round = s.Int(1);
  const std::string what =
      absl::StrCat("running sum ", row.job, "/", row.round);
  if (s.Int(2) < 0 || s.Int(3) < 0) {
    return Broken(db, what, "its spool extent is negative");
  }
  row.extent.offset = static_cast<uint64_t>(s.Int(2));
  row.extent.size = static_cast<uint64_t>(s.Int(3));
  const absl::StatusOr<Digest> digest = Digest::FromHex(s.Bytes(4));
  ABSL_RETURN_IF_ERROR(AsLoss(db, what, digest.status()));
  row.digest = *digest;
  ABSL_RETURN_IF_ERROR(AsLoss(db, what, CheckMutation(row)));
  contents->folds[row.job][row.round] = row;
  return absl::OkStatus();
}

absl::Status ReadVersion(const Database& db, const Statement& s,
                         JournalContents* contents) {
  const std::string job = s.Bytes(0);
  const int64_t version = s.Int(1);
  const std::string what = absl::StrCat("version ", job, "/", version);
  VersionRow row;
  if (!row.manifest.ParseFromString(s.Bytes(2)) || row.manifest.job() != job ||
      row.manifest.version() != version) {
    return Broken(db, what, "its manifest is not that of this version");
  }
  auto state = SplitStateFiles(s.Bytes(3));
  ABSL_RETURN_IF_ERROR(AsLoss(db, what, state.status()));
  row.state = *std::move(state);
  ABSL_RETURN_IF_ERROR(AsLoss(db, what, CheckMutation(row)));
  contents->versions[job][version] = std::move(row);
  return absl::OkStatus();
}

using ReadRow = absl::Status (*)(const Database&, const Statement&,
                                 JournalContents*);

absl::Status ReadTables(Database* db, JournalContents* contents) {
  const std::pair<const char*, ReadRow> tables[] = {
      {"SELECT name, state, reason, submitted, finished, spec, records_epoch "
       "FROM jobs",
       ReadJob},
      {"SELECT job, round, phase, attempt, cohort_seed, opened, deadline, "
       "cohort, included, report, carried FROM rounds",
       ReadRound},
      {"SELECT job, round, worker, digest, spool_offset, spool_size, metrics, "
       "task_round FROM accepted",
       ReadAccepted},
      {"SELECT job, round, spool_offset, spool_size, digest FROM folds",
       ReadFold},
      {"SELECT job, version, manifest, state FROM versions", ReadVersion},
  };
  for (const auto& [sql, read] : tables) {
    ABSL_ASSIGN_OR_RETURN(Statement s, db->Prepare(sql));
    while (true) {
      ABSL_ASSIGN_OR_RETURN(const bool row, s.Step());
      if (!row) break;
      ABSL_RETURN_IF_ERROR(read(*db, s, contents));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<JournalContents> LoadJournal(Database* database) {
  ABSL_RETURN_IF_ERROR(database->Execute("BEGIN"));
  JournalContents contents;
  const absl::Status status = ReadTables(database, &contents);
  ABSL_RETURN_IF_ERROR(database->Execute("ROLLBACK"));
  if (!status.ok()) return status;
  return contents;
}

}  // namespace koinon::coordinator
