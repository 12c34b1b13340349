#ifndef KOINON_DHT_ROUTING_LOST_NODES_H_
#define KOINON_DHT_ROUTING_LOST_NODES_H_

#include <cstddef>
#include <deque>
#include <vector>

#include "absl/time/time.h"
#include "dht/key.h"

namespace koinon::dht {

// The last nodes that left the routing table because they did not answer. They
// may not be dead: this node, or the network between, may have been down.
//
// Bounded: of more than it has place for, the one is forgotten whose turn was
// longest ago. A value. Not thread-safe.
class LostNodes {
 public:
  explicit LostNodes(size_t limit) : limit_(limit) {}

  // It left at `now`. Whoever is among them already takes the new address, and
  // its turn is last.
  void Add(const Contact& contact, absl::Time now);
  // It is back. Says whether it was among them.
  bool Remove(const Key& id);

  bool empty() const { return nodes_.empty(); }
  size_t size() const { return nodes_.size(); }
  // Whose turn it is to be asked whether it is back: each in turn. One that
  // left before `forgotten` is named for the last time. Requires that there is
  // one.
  Contact Next(absl::Time forgotten);
  // The nearest to `target`, nearest first, at most `count`.
  std::vector<Contact> Nearest(const Key& target, size_t count) const;

 private:
  struct Lost {
    Contact contact;
    absl::Time left;
  };
  const size_t limit_;
  std::deque<Lost> nodes_;  // the next in turn first
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_ROUTING_LOST_NODES_H_
