#ifndef KOINON_TOOLS_BENCH_SWARM_SIMULATION_H_
#define KOINON_TOOLS_BENCH_SWARM_SIMULATION_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace koinon::bench {

// Spreads one content through a swarm without a network: the pickers, the
// origin's policy, and who is sent to first are those of dht/swarm, and time
// goes by in slots, in each of which a peer can send one piece and receive one
// (Mundinger, Weber and Weiss 2008, section 2). Peers are the nodes of a random
// graph with symmetric links; each has the origin as a source too.
struct SwarmSimulationOptions {
  size_t peers = 1000;
  size_t pieces = 256;
  size_t degree = 10;
  size_t origin_uplink = 4;  // pieces in a slot
  size_t copies = 2;         // of each piece, that the origin gives at most
  double slow = 0;           // part of the peers: they send in one slot of ten
  double dying = 0;          // part of the peers: gone at half of the bound
  size_t in_flight = 2;      // pieces asked of each source
  uint64_t seed = 1;
  // What the pickers' patience is measured in: a piece of 4 MiB at 1 Gb/s.
  absl::Duration slot = absl::Milliseconds(34);
};

struct SwarmSimulationReport {
  SwarmSimulationOptions options;
  // (1 + floor(log2(peers)) / pieces) pieces: no protocol needs fewer slots.
  double bound = 0;
  size_t survivors = 0;
  size_t finished = 0;  // of the survivors
  // Slots until the survivors had all, and until those who are not slow had.
  double p50 = 0, p99 = 0, max = 0;
  double fast_p50 = 0;
  // What left the origin, over the content: as it chose, and as last resort.
  double copies = 0;
  double last_resort_copies = 0;
  double wasted = 0;   // part of the pieces sent that the receiver had already
  double seconds = 0;  // that the simulation took
};

// INVALID_ARGUMENT for options that are none, naming the field. Ends when all
// survivors have finished, or, telling `finished`, after 100 times the bound.
// The same options give the same report, but for `seconds`.
absl::StatusOr<SwarmSimulationReport> RunSwarmSimulation(
    const SwarmSimulationOptions& options);

// One line for each report, under a line with headings.
std::string SwarmSimulationHeading();
std::string SwarmSimulationLine(const SwarmSimulationReport& report);

}  // namespace koinon::bench

#endif  // KOINON_TOOLS_BENCH_SWARM_SIMULATION_H_
