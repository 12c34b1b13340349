#ifndef KOINON_TOOLS_BENCH_DISK_ROUND_H_
#define KOINON_TOOLS_BENCH_DISK_ROUND_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "tools/bench/bench_updates.h"

namespace koinon::tools {

struct DiskRoundOptions {
  std::vector<std::string> rules = {"median", "trimmed_mean", "krum"};
  AggregateCase size = {100, 10'000'000};
  std::vector<int> threads = {2};
  // Where the updates are spooled (4 n P bytes) and the result is written.
  // Empty: the system's folder for temporary files.
  std::string dir;
};

struct DiskRoundFigure {
  std::string rule;
  AggregateCase size;
  int threads = 0;
  double seconds = 0;  // once
  // The process's largest resident set during the rule, and what it was before
  // it. Page cache is not part of either: the spool is read, not mapped.
  int64_t peak_bytes = 0;
  int64_t before_bytes = 0;
  double largest_error = 0;
};

// The memory of robust rounds whose updates are on disk, as a coordinator's
// are: spools n updates, then aggregates them by each rule into a file, and
// checks the result. Everything is removed in the end.
//
// INVALID_ARGUMENT for an empty case or an unknown rule; INTERNAL for a wrong
// result; the spool's errors; FAILED_PRECONDITION where the system does not
// tell a process its peak.
absl::StatusOr<std::vector<DiskRoundFigure>> MeasureDiskRounds(
    const DiskRoundOptions& options);

std::string DiskRoundTable(absl::Span<const DiskRoundFigure> figures);
std::string DiskRoundJson(absl::Span<const DiskRoundFigure> figures);

}  // namespace koinon::tools

#endif  // KOINON_TOOLS_BENCH_DISK_ROUND_H_
