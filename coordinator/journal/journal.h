#ifndef KOINON_COORDINATOR_JOURNAL_JOURNAL_H_
#define KOINON_COORDINATOR_JOURNAL_JOURNAL_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/digest.h"
#include "base/ids.h"
#include "proto/job.pb.h"
#include "proto/model.pb.h"

namespace koinon::coordinator {

// What must survive a crash, as rows. A put replaces the row with the same key
// unless it says otherwise. Jobs come before what refers to them, rounds before
// their accepted updates. Times are kept to the microsecond.

struct JobRow {      // key: spec.name
  v1::JobSpec spec;  // defaults filled in
  v1::JobState state = v1::PENDING;
  std::string reason;
  absl::Time submitted;
  absl::Time finished = absl::InfiniteFuture();
  // The least epoch of its records in the DHT (docs/formats/record.md): Unix
  // milliseconds at which an older state of the job was last put in place on
  // purpose, so that what lives counts before what was given up. 0: never.
  int64_t records_epoch = 0;
};

enum class RoundPhase { kOpen, kClosed, kPublished, kDone };

struct RoundRow {  // key: (job, round)
  JobId job;
  int64_t round = 0;
  RoundPhase phase = RoundPhase::kOpen;
  int64_t attempt = 1;
  uint64_t cohort_seed = 0;
  absl::Time opened;
  absl::Time deadline;
  std::vector<WorkerId> cohort;    // ascending
  std::vector<WorkerId> included;  // from kClosed on
  // Buffered rounds: members (all in `cohort`) that go on with the task of an
  // earlier round, and that round.
  std::map<WorkerId, int64_t> carried;
  v1::RoundReport report;  // from kPublished on; with evaluation: kDone
};

// Where an accepted update lies in the spool.
struct SpoolExtent {
  uint64_t offset = 0;
  uint64_t size = 0;
  friend bool operator==(const SpoolExtent&, const SpoolExtent&) = default;
};

// Key: (job, round, worker). Never replaced: the same row again is not an
// error; another digest is ALREADY_EXISTS and fails the whole commit.
struct AcceptedRow {
  JobId job;
  int64_t round = 0;
  WorkerId worker;
  Digest digest;
  // Size 0: the update has been added to the round's running sum (FoldRow).
  SpoolExtent extent;
  v1::Metrics metrics;
  // The round whose task it answers, and so base version + 1; earlier than
  // `round` only in buffered rounds.
  int64_t task_round = 0;
};

// The running sum of a round whose updates are added on arrival: it holds
// exactly the round's accepted rows with an extent of size 0. Key: (job,
// round).
struct FoldRow {
  JobId job;
  int64_t round = 0;
  // Where the sum lies (coordinator/folds): one of two extents of the spool
  // takes turns, so that a crash while one is written leaves the other whole.
  SpoolExtent extent;
  Digest digest;  // of the extent's bytes
};

// Forgets the accepted rows of a round, and its running sum if `worker` is
// empty (it is published; or its update turned out unusable and `worker` is
// set).
struct ForgetAccepted {
  JobId job;
  int64_t round = 0;
  WorkerId worker;  // empty: all of the round
};

// A vector of the model's size that goes with a version: a server optimizer's
// state, or a rule's.
struct StateFile {
  std::string name;  // "momentum"
  Digest digest;     // of the file
  int64_t size_bytes = 0;
  friend bool operator==(const StateFile&, const StateFile&) = default;
};

struct VersionRow {  // key: (job, version)
  v1::ModelManifest manifest;
  std::vector<StateFile> state = {};
};
struct ForgetVersion {
  JobId job;
  int64_t version = 0;
};

using Mutation = std::variant<JobRow, RoundRow, AcceptedRow, FoldRow,
                              ForgetAccepted, VersionRow, ForgetVersion>;

struct JournalContents {
  std::map<JobId, JobRow> jobs;
  std::map<JobId, std::map<int64_t, RoundRow>> rounds;
  std::map<JobId, std::map<int64_t, std::map<WorkerId, AcceptedRow>>> accepted;
  std::map<JobId, std::map<int64_t, FoldRow>> folds;
  std::map<JobId, std::map<int64_t, VersionRow>> versions;
};

// The coordinator's memory: written before it is acted on. One writer at a
// time; not thread-safe.
class Journal {
 public:
  virtual ~Journal() = default;

  // All mutations or none, durable on return. Errors: ALREADY_EXISTS (see
  // AcceptedRow); INVALID_ARGUMENT (a row that is none, or refers to a job or
  // round that is not there); RESOURCE_EXHAUSTED (disk full; may succeed
  // later); UNAVAILABLE (another process holds the lock; may succeed later);
  // FAILED_PRECONDITION if another coordinator has opened the journal since
  // (this one must stop); DATA_LOSS (must be treated as a crash). After the
  // last two every later commit fails the same way.
  virtual absl::Status Commit(absl::Span<const Mutation> mutations) = 0;

  virtual absl::StatusOr<JournalContents> Load() = 0;

  // Which opening of this journal this is, from 1: the fencing token that every
  // commit compares.
  virtual int64_t epoch() const = 0;
};

std::unique_ptr<Journal> NewMemoryJournal();

// SQLite in WAL mode with synchronous=FULL, at `path` (a real file). Creates or
// migrates the schema; FAILED_PRECONDITION, with both versions and nothing
// changed, if a newer Koinon wrote it; DATA_LOSS, naming the file, if SQLite
// finds it corrupt.
//
// A journal that is there without the mark that says how far it had gone is a
// copy that somebody has put in place on purpose: each job's `records_epoch`
// becomes `now`, or more if it, or the submission, was not before `now`. This
// is durable before the mark is there.
//
// docs/formats/journal.md describes the file.
struct SqliteJournalOptions {
  // Of the database file. A commit that would need more is RESOURCE_EXHAUSTED.
  // 0: as much as the disk holds.
  int64_t max_bytes = 0;
};
absl::StatusOr<std::unique_ptr<Journal>> OpenSqliteJournal(
    const std::string& path, absl::Time now, SqliteJournalOptions options = {});

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_JOURNAL_JOURNAL_H_
