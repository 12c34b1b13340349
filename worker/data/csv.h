#ifndef KOINON_WORKER_DATA_CSV_H_
#define KOINON_WORKER_DATA_CSV_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/data/dataset.pb.h"
#include "worker/data/numeric_array.h"

namespace koinon::worker {

// A table of numbers with one label per row.
struct CsvTable {
  std::vector<std::string> columns;  // the features' names
  NumericArray features;             // [rows, columns]
  std::vector<float> labels;         // [rows], finite
  std::vector<std::string> groups;   // [rows]; empty without a group column
  int64_t dropped_rows = 0;          // for missing values
};

// Decodes comma-separated values (RFC 4180, with LF or CRLF) as `source` says;
// blank lines are skipped, spaces around unquoted cells too. The texts of
// `group_column` (if not empty) are kept beside the features.
//
// INVALID_ARGUMENT that says which line and column, what was expected and
// found: a column that the table lacks (lists those there are), rows of unequal
// width, a cell that is no finite number and not declared missing, an unknown
// class, a quoted cell that never ends, no rows. RESOURCE_EXHAUSTED if the
// features take more than `max_bytes`.
absl::StatusOr<CsvTable> DecodeCsv(absl::string_view what,
                                   absl::string_view bytes,
                                   const CsvSource& source,
                                   const std::string& group_column,
                                   uint64_t max_bytes);

}  // namespace koinon::worker

#endif  // KOINON_WORKER_DATA_CSV_H_
