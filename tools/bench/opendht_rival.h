#ifndef KOINON_TOOLS_BENCH_OPENDHT_RIVAL_H_
#define KOINON_TOOLS_BENCH_OPENDHT_RIVAL_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tools/bench/dht_bench.h"

namespace koinon::tools {

// OpenDHT's own figures for the same operations on as many nodes, by its Python
// module (Debian: python3-opendht) in a child process. NOT_FOUND, saying what
// is missing, if there is no interpreter or no module; DEADLINE_EXCEEDED if it
// does not end.
absl::StatusOr<DhtFigure> MeasureOpenDht(const DhtBenchOptions& options);

// From what the script prints. UNAVAILABLE for anything else.
absl::StatusOr<DhtFigure> ParseOpenDhtOutput(absl::string_view output);

}  // namespace koinon::tools

#endif  // KOINON_TOOLS_BENCH_OPENDHT_RIVAL_H_
