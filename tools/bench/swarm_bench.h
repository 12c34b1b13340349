#ifndef KOINON_TOOLS_BENCH_SWARM_BENCH_H_
#define KOINON_TOOLS_BENCH_SWARM_BENCH_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace koinon::bench {

// A content spread from one process, as the coordinator's, to others, as
// workers', over the loopback: how long it takes, beside what the connections
// alone allow and what a plain copy from one to the next takes; how much leaves
// the coordinator; how much memory a fetch takes.
struct SwarmBenchOptions {
  std::vector<int64_t> sizes = {100'000'000, 1'000'000'000};  // bytes
  size_t workers = 16;
  bool tls = true;  // mutual
  // The coordinator's process is killed once so many copies have left it; 0:
  // never.
  double kill_after_copies = 0;
  std::string dir;  // for the files; empty: the system's temporary folder
  uint64_t seed = 1;
};

struct SwarmBenchFigure {
  int64_t size_bytes = 0;
  size_t workers = 0;
  bool tls = false;
  double seconds = 0;           // until the last worker had it all
  double loopback_seconds = 0;  // as many bytes between as many processes,
                                // unhashed and from and to nowhere
  double ratio = 0;             // of the two above
  // The same streams, from a file, each leaf verified, and to a file: what has
  // to be done anyway, in a swarm or not.
  double copy_seconds = 0;
  double copy_ratio = 0;
  // Of all processes together: what limits both where cores are few.
  double cpu_seconds = 0;
  double loopback_cpu_seconds = 0;
  double copy_cpu_seconds = 0;
  double origin_copies = 0;  // of the content, that left the origin
  double wasted_copies = 0;  // received twice or thrown away, by all
  double memory_mib = 0;     // growth of the worker whose memory grew most
};

// INTERNAL if a worker's file is not the content; UNAVAILABLE, with what a
// process said, if one fails. `program`: the koinon command, which has the
// member as a subcommand.
absl::StatusOr<std::vector<SwarmBenchFigure>> MeasureSwarm(
    const std::string& program, const SwarmBenchOptions& options);

std::string SwarmBenchTable(const std::vector<SwarmBenchFigure>& figures);
std::string SwarmBenchJson(const std::vector<SwarmBenchFigure>& figures);

}  // namespace koinon::bench

#endif  // KOINON_TOOLS_BENCH_SWARM_BENCH_H_
