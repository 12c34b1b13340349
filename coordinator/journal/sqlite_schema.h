#ifndef KOINON_COORDINATOR_JOURNAL_SQLITE_SCHEMA_H_
#define KOINON_COORDINATOR_JOURNAL_SQLITE_SCHEMA_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "coordinator/journal/sqlite_database.h"

namespace koinon::coordinator {

// docs/formats/journal.md, "Versions of the schema".
constexpr int64_t kJournalApplicationId = 0x4B6F696E;  // "Koin"
constexpr int64_t kJournalSchemaVersion = 1;

// Makes a just opened database a journal that can be used: looks whose it is
// before anything is changed, sets the durability that the format promises,
// checks every page, and creates the tables in an empty one.
// FAILED_PRECONDITION if it is another program's or a newer Koinon's, with the
// file untouched; DATA_LOSS, naming the file, if it is corrupt.
absl::Status PrepareJournalDatabase(Database* database);

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_JOURNAL_SQLITE_SCHEMA_H_
