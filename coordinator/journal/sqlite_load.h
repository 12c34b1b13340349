#ifndef KOINON_COORDINATOR_JOURNAL_SQLITE_LOAD_H_
#define KOINON_COORDINATOR_JOURNAL_SQLITE_LOAD_H_

#include "absl/status/statusor.h"
#include "coordinator/journal/journal.h"
#include "coordinator/journal/sqlite_database.h"

namespace koinon::coordinator {

// All rows of a journal, as of one moment. DATA_LOSS, naming the file, table
// and key, if a row is not what docs/formats/journal.md says.
absl::StatusOr<JournalContents> LoadJournal(Database* database);

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_JOURNAL_SQLITE_LOAD_H_
