#ifndef KOINON_DHT_NODE_UPKEEP_H_
#define KOINON_DHT_NODE_UPKEEP_H_

#include <cstddef>
#include <deque>

#include "absl/time/time.h"
#include "dht/key.h"
#include "dht/node_core.h"

namespace koinon::dht {

// What a node does every second: asks silent nodes whether they are there,
// forgets what has expired, and stores again, at the k closest of the moment,
// what nobody has for an hour. Lives on the node's loop.
class Upkeep {
 public:
  explicit Upkeep(NodeCore* core) : core_(core) {}

  void Tick();

 private:
  void PingSilentNodes();
  void Republish();

  NodeCore* const core_;
  absl::Time next_sweep_ = absl::InfinitePast();
  std::deque<Key> to_republish_;
  size_t republishing_ = 0;
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_NODE_UPKEEP_H_
