#ifndef KOINON_WORKER_COLLECTIVE_CORE_SHARE_H_
#define KOINON_WORKER_COLLECTIVE_CORE_SHARE_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace koinon::worker {

// The processors that a process may run on, as mpirun, a batch system or
// taskset left them to it, by number.
std::vector<int> AllowedCores();

// How many processors fall to a rank: of each that it may run on, its part, if
// the ranks of its machine that may run there share it evenly. So ranks that
// are bound to processors of their own have these, and ranks that are not bound
// divide the machine; below 1 where there are more ranks than processors.
// `neighbours`: of every rank of the machine, this one among them. Pure.
double ShareOfCores(absl::Span<const int> own,
                    const std::vector<std::vector<int>>& neighbours);

// How many threads should train on such a share: at least 1.
int ThreadsOn(double cores);

// Processors on the wire, [kCoreMaskBytes]: a bit for each. Of a machine with
// more of them than there is room for, the first ones.
inline constexpr size_t kCoreMaskBytes = 1024;
std::string EncodeCores(absl::Span<const int> cores);
std::vector<int> DecodeCores(absl::string_view mask);

}  // namespace koinon::worker

#endif  // KOINON_WORKER_COLLECTIVE_CORE_SHARE_H_
