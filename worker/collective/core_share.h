#ifndef KOINON_WORKER_COLLECTIVE_CORE_SHARE_H_
#define KOINON_WORKER_COLLECTIVE_CORE_SHARE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "worker/collective/communicator.h"

namespace koinon::worker {

// The processors that a process may run on, as mpirun, a batch system or
// taskset left them to it, by number.
std::vector<int> AllowedCores();

// How many threads a rank should train with: of each processor that it may run
// on, its part, if the ranks of its node that may run there share it evenly; at
// least 1. So ranks that are bound to processors of their own use these, and
// ranks that are not bound divide the node. Pure.
int ShareOfCores(absl::Span<const int> own,
                 const std::vector<std::vector<int>>& neighbours);

// Collective. The same, of this rank; `neighbours` of ShareOfCores are the
// ranks of its node, itself among them.
absl::StatusOr<int> AgreeOnCores(Communicator* communicator);

}  // namespace koinon::worker

#endif  // KOINON_WORKER_COLLECTIVE_CORE_SHARE_H_
