#ifndef KOINON_DHT_SWARM_TESTING_SWARM_H_
#define KOINON_DHT_SWARM_TESTING_SWARM_H_

#include <cstddef>
#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

namespace koinon::dht {

// What a random swarm is made of.
struct SwarmMake {
  uint64_t seed = 0;
  size_t peers = 0;
  size_t pieces = 0;
  size_t sites = 1;
  size_t uplink = 1;  // the origin's pieces in a slot
  // Parts of the peers.
  double crossing = 0, leeches = 0, slow = 0, cut_off = 0, late = 0;
  // In each slot, of each peer: it is killed; its stream breaks.
  double killed = 0, broken = 0;
};

std::ostream& operator<<(std::ostream& out, const SwarmMake& make);

// What left its origin.
struct SwarmGiven {
  bool all_done = false;
  size_t chosen = 0;
  size_t to_leeches = 0;  // chosen
  // Last resorts, by what justifies them: fewer copies than two are out; nobody
  // has the piece who is there and can be reached; those who have it have given
  // nothing at all for long.
  size_t scarce = 0, out_of_reach = 0, starved = 0;
  // Of what the law says otherwise; to be empty.
  std::vector<std::string> wrong;

  size_t last_resorts() const { return scarce + out_of_reach + starved; }
};

// Spreads one content, without a network: the pickers of those who fetch and
// the book of the origin, joined in slots of time, for tests of the two.
// Receivers come late, break off and come again, are killed, serve nobody, are
// slow, or are cut off from all others; they are of several sites, and cross
// their borders or not. Each choice of the origin and each last resort is
// judged by what the swarm, which knows all, counts itself. The same make gives
// the same.
SwarmGiven SpreadInRandomSwarm(const SwarmMake& make);

}  // namespace koinon::dht

#endif  // KOINON_DHT_SWARM_TESTING_SWARM_H_
