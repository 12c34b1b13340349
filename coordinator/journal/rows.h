#ifndef KOINON_COORDINATOR_JOURNAL_ROWS_H_
#define KOINON_COORDINATOR_JOURNAL_ROWS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/ids.h"
#include "coordinator/journal/journal.h"

namespace koinon::coordinator {

// What every journal demands of a row before it is kept, so that no
// implementation takes what another would refuse: ids are ids, worker lists
// ascend, rounds count from 1, extents fit into 63 bits, manifests have
// digests. INVALID_ARGUMENT says which row and field.
absl::Status CheckMutation(const Mutation& mutation);

// The row's key, for messages: "accepted update digits-1/3/site-a".
std::string DescribeKey(const AcceptedRow& row);

// Times as docs/formats/journal.md keeps them: microseconds.
struct StoredTime {
  bool is_null = false;  // the infinite future
  int64_t micros = 0;
};
StoredTime StoreTime(absl::Time time);
absl::Time LoadTime(const StoredTime& stored);
// `time` after a store and a load.
absl::Time RoundTripTime(absl::Time time);

std::string JoinWorkers(const std::vector<WorkerId>& workers);
std::vector<WorkerId> SplitWorkers(absl::string_view text);

// "site-a:3 site-b:4"; the workers ascend.
std::string JoinCarried(const std::map<WorkerId, int64_t>& carried);
absl::StatusOr<std::map<WorkerId, int64_t>> SplitCarried(
    absl::string_view text);

// "momentum:4004:<digest in hex> ..."
std::string JoinStateFiles(const std::vector<StateFile>& files);
absl::StatusOr<std::vector<StateFile>> SplitStateFiles(absl::string_view text);

// "open", "closed", "published", "done".
absl::string_view RoundPhaseName(RoundPhase phase);
absl::StatusOr<RoundPhase> RoundPhaseFromName(absl::string_view name);

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_JOURNAL_ROWS_H_
