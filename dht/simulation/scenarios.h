#ifndef KOINON_DHT_SIMULATION_SCENARIOS_H_
#define KOINON_DHT_SIMULATION_SCENARIOS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "dht/simulation/fleet.h"

namespace koinon::dht {

// What a DHT has to bear: small fleets in tests, larger ones from the command
// line. The same seed gives the same figures. Tables are filled by joining.
// Nodes walk as in a large network (no full tables) unless it says otherwise; a
// message takes 5 ms and 20 ms more on average. A scenario's fleet has been
// started (StartedFleet), and is of no use afterwards.

struct Quantiles {
  double p50 = 0;
  double p95 = 0;
};
// Zeros of nothing.
Quantiles QuantilesOf(std::vector<double> values);

// Walks to random places, a few at a time, against who is closest indeed.
struct LookupFigures {
  size_t lookups = 0;
  size_t closest_found = 0;  // whose nearest is the true one
  double recall = 0;         // share of the k true closest that were found
  Quantiles depth;
  Quantiles questions;
  Quantiles milliseconds;
  double table = 0;  // nodes in a table, on average
};
LookupFigures LookUpAtRandom(SimulatedFleet* fleet, size_t lookups);

struct GetFigures {
  size_t gets = 0;
  size_t found = 0;
  size_t on_first_path = 0;
  size_t wrong = 0;    // another value than was stored: never
  size_t refused = 0;  // records that did not verify, on the way
  Quantiles milliseconds;
  Quantiles questions;
};

// Records that were stored, and looking for them again.
class Library {
 public:
  Library(SimulatedFleet* fleet, uint64_t seed) : fleet_(fleet), seed_(seed) {}
  // Stores so many records of `size_bytes` from random nodes, `not_by` being
  // none of them; says how many were stored.
  size_t Put(size_t records, size_t size_bytes = 500,
             std::optional<size_t> not_by = std::nullopt);
  // Gets of random records by random nodes.
  GetFigures Get(size_t gets);
  const std::vector<Key>& keys() const { return keys_; }

 private:
  static void Count(const Key& key, const Node::GetResult& result,
                    GetFigures* figures);

  SimulatedFleet* const fleet_;
  const uint64_t seed_;
  std::vector<Key> keys_;
};

SimulatedFleet::Options LargeNetwork(uint64_t seed, size_t nodes);
// Of a large network. Null if not all nodes could join.
std::unique_ptr<SimulatedFleet> StartedFleet(uint64_t seed, size_t nodes);

// Half of the nodes die at the same moment; then everything is looked for at
// once, before anything is repaired.
GetFigures HalfDeadScenario(SimulatedFleet* fleet, size_t records, size_t gets);

// A share of the nodes begins to lie: all in the same way, or a third of them
// in each. `stored`: what was stored before. `while_lying`: what was stored
// after, by walks that the liars were asked in.
struct LiarFigures {
  GetFigures stored;
  GetFigures while_lying;
};
LiarFigures LiarScenario(SimulatedFleet* fleet, double liars, Lie lie,
                         size_t records, size_t gets);

// The same for who serves a content: each is announced by a few honest nodes,
// and liars say that others serve it.
struct ProviderFigures {
  size_t searches = 0;
  size_t found = 0;       // that named at least one of those who serve it
  size_t named = 0;       // by all searches together
  size_t false_ones = 0;  // of those
  Quantiles milliseconds;
};
struct ProviderLiarFigures {
  ProviderFigures announced;    // before they lied
  ProviderFigures while_lying;  // by walks that the liars were asked in
};
ProviderLiarFigures ProviderLiarScenario(SimulatedFleet* fleet, double liars,
                                         Lie lie, size_t contents,
                                         size_t searches);

// Nodes come and go.
struct ChurnFigures {
  size_t stored = 0;
  size_t gets = 0;
  size_t found = 0;
  size_t lost = 0;      // not found at the end, though their lifetime lasts
  size_t outlived = 0;  // found after their expiry: never
  size_t expired_gets = 0;
  size_t replaced_nodes = 0;
};
// Each minute `share` of the nodes are replaced, spread over the minute; with
// each of them somebody gets a record. Every tenth record is a signed one that
// expires half-way.
ChurnFigures ChurnScenario(SimulatedFleet* fleet, double share,
                           absl::Duration duration, size_t records);

// The holder of a value that is nearest to it dies, one every 10 s.
struct HolderFigures {
  size_t killed = 0;
  size_t first_holders_left = 0;  // of those that held it in the beginning
  size_t gets = 0;
  size_t found = 0;
  size_t fewest_holders = 0;
  size_t holders_at_the_end = 0;
};
HolderFigures KilledHoldersScenario(SimulatedFleet* fleet, size_t kills);

// Two halves hear nothing of each other for a while.
struct SplitFigures {
  double recall_apart = 0;         // over both halves, at the end of the split
  absl::Duration until_one_again;  // after healing; infinite: not in 20 min
  size_t gets = 0;  // by each half, of what was stored in the other
  size_t found = 0;
};
SplitFigures SplitScenario(SimulatedFleet* fleet, absl::Duration apart);

// One writer stores ten times its quota while others go on.
struct FloodFigures {
  size_t flooded = 0;  // records that it tried to store
  size_t refused = 0;  // for its quota, by all nodes
  size_t puts = 0;     // of others
  size_t stored = 0;
  size_t gets = 0;
  size_t found = 0;
  size_t most_bytes = 0;  // in one store
  size_t bound_bytes = 0;
};
FloodFigures FloodScenario(uint64_t seed, size_t nodes);

// A small fleet, whose nodes know everybody.
struct SmallFleetFigures {
  size_t nodes = 0;
  double table = 0;
  size_t puts = 0;
  size_t stored = 0;
  Quantiles put_milliseconds;
  size_t one_step_gets = 0;
  GetFigures gets;
};
SmallFleetFigures SmallFleetScenario(uint64_t seed, size_t nodes,
                                     size_t records, size_t gets);

// The network's log after a little of everything.
std::string LogOfABusyFleet(uint64_t seed, size_t nodes);

}  // namespace koinon::dht

#endif  // KOINON_DHT_SIMULATION_SCENARIOS_H_
