#ifndef KOINON_TOOLS_BENCH_APART_H_
#define KOINON_TOOLS_BENCH_APART_H_

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace koinon::tools {

// Runs each task in a process of its own, a copy of this one as it is now, at
// most `at_once` at the same time, begun in their order. What was expensive to
// prepare serves all of them so, and none sees what another did to it. `ended`
// is told here, in this thread, of each as it ends: what it returned (a few
// MiB at most), or UNAVAILABLE if its process could not be started or did not
// end by itself.
//
// This process must have no other thread: only the calling one is copied.
void RunApart(
    const std::vector<std::function<std::string()>>& tasks, size_t at_once,
    const std::function<void(size_t task, absl::StatusOr<std::string> result)>&
        ended);

}  // namespace koinon::tools

#endif  // KOINON_TOOLS_BENCH_APART_H_
