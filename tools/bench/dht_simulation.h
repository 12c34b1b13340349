#ifndef KOINON_TOOLS_BENCH_DHT_SIMULATION_H_
#define KOINON_TOOLS_BENCH_DHT_SIMULATION_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace koinon::tools {

struct DhtSimulationOptions {
  size_t nodes = 1'000;  // at least 100
  uint64_t seed = 1;
  // Scenarios in which time passes (churn, holders that die, a split, a flood)
  // take at most so many nodes.
  size_t lasting_nodes = 300;
};

// One thing that the DHT has to bear, and how it did.
struct DhtSimulationRow {
  std::string condition;  // "half of the nodes die at once"
  size_t nodes = 0;
  std::string figure;  // what was measured
  std::string target;  // what it has to be; empty: nothing is asked
  bool met = true;
  double cpu_seconds = 0;  // of this process, for the whole simulation
};
struct DhtSimulationReport {
  DhtSimulationOptions options;
  std::vector<DhtSimulationRow> rows;
  double peak_rss_mib = 0;  // largest resident set of this process
};

// Runs every scenario of dht/simulation in this thread; `progress` (may be
// null) is told of each row as it comes. Minutes for 10,000 nodes.
DhtSimulationReport RunDhtSimulation(
    const DhtSimulationOptions& options,
    const std::function<void(const DhtSimulationRow&)>& progress);

std::string DhtSimulationHeading(const DhtSimulationOptions& options);
std::string DhtSimulationLine(const DhtSimulationRow& row);
std::string DhtSimulationJson(const DhtSimulationReport& report);

}  // namespace koinon::tools

#endif  // KOINON_TOOLS_BENCH_DHT_SIMULATION_H_
