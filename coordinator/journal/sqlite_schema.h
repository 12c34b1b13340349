#ifndef KOINON_COORDINATOR_JOURNAL_SQLITE_SCHEMA_H_
#define KOINON_COORDINATOR_JOURNAL_SQLITE_SCHEMA_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/journal/sqlite_database.h"

namespace koinon::coordinator {

// docs/formats/journal.md, "Versions of the schema".
constexpr int64_t kJournalApplicationId = 0x4B6F696E;  // "Koin"
constexpr int64_t kJournalSchemaVersion = 3;

// Whether a just opened database is new and empty, without changing a byte.
// FAILED_PRECONDITION if it is another program's or a newer Koinon's;
// DATA_LOSS, naming the file, if it is corrupt.
absl::StatusOr<bool> InspectJournalDatabase(Database* database);

// Makes an inspected database a journal that can be used: sets the durability
// that the format promises, creates the tables in a fresh one, and of another
// checks every page and brings an older schema up to date. DATA_LOSS, naming
// the file, if it is corrupt.
absl::Status PrepareJournalDatabase(Database* database, bool fresh);

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_JOURNAL_SQLITE_SCHEMA_H_
