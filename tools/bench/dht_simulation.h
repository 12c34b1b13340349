#ifndef KOINON_TOOLS_BENCH_DHT_SIMULATION_H_
#define KOINON_TOOLS_BENCH_DHT_SIMULATION_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace koinon::tools {

struct DhtSimulationOptions {
  size_t nodes = 1'000;  // at least 100
  uint64_t seed = 1;
  // Those of DhtScenarios() to run. Empty: all.
  std::vector<std::string> scenarios = {};
};

// The names of the scenarios, in the order in which they are begun: those that
// take longest first.
std::vector<std::string> DhtScenarios();

// One thing that the DHT has to bear, and how it did.
struct DhtSimulationRow {
  std::string condition;  // "half of the nodes die at once"
  size_t nodes = 0;
  std::string figure;  // what was measured
  std::string target;  // what it has to be; empty: nothing is asked
  bool met = true;
  double cpu_seconds = 0;
};
struct DhtSimulationReport {
  DhtSimulationOptions options;
  std::vector<DhtSimulationRow> rows;
  double peak_rss_mib = 0;  // largest resident set of any of its processes
};

// Lets the nodes join, and runs each wanted scenario of dht/simulation on a
// copy of that fleet, in a process of its own, as many at once as there are
// processors: this process must have no other thread. `progress` (may be null)
// is told of each row as it comes. A scenario whose process dies is a row that
// is missed. Most of the time of 10,000 nodes goes into the hour of churn.
// Requires that all of `options.scenarios` are scenarios.
DhtSimulationReport RunDhtSimulation(
    const DhtSimulationOptions& options,
    const std::function<void(const DhtSimulationRow&)>& progress);

// What scenarios' processes tell. DATA_LOSS for anything else.
std::string EncodeDhtSimulationRow(const DhtSimulationRow& row);
absl::StatusOr<DhtSimulationRow> DecodeDhtSimulationRow(
    const std::string& text);

std::string DhtSimulationHeading(const DhtSimulationOptions& options);
std::string DhtSimulationLine(const DhtSimulationRow& row);
std::string DhtSimulationJson(const DhtSimulationReport& report);

}  // namespace koinon::tools

#endif  // KOINON_TOOLS_BENCH_DHT_SIMULATION_H_
