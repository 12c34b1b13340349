#ifndef KOINON_AGGREGATION_CORE_ROWS_H_
#define KOINON_AGGREGATION_CORE_ROWS_H_

#include <vector>

#include "absl/status/status.h"
#include "aggregation/core/update_set.h"
#include "base/ids.h"

namespace koinon::aggregation {

// One row of a pass over the parameters: an update, or a vector that the rule
// keeps. Borrows both.
struct Row {
  const UpdateSource* values = nullptr;
  const WorkerId* worker = nullptr;  // null: nobody's, the rule's own state

  // `status` with the worker to blame, if there is one.
  absl::Status Blame(const absl::Status& status) const {
    return worker == nullptr ? status : BlameWorker(*worker, status);
  }
};
using Rows = std::vector<Row>;

// The updates in canonical order. Borrows from `set`.
inline Rows RowsOf(const UpdateSet& set) {
  Rows rows(set.size());
  for (size_t i = 0; i < set.size(); ++i) {
    rows[i] = {&set.values(i), &set.worker(i)};
  }
  return rows;
}

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_CORE_ROWS_H_
