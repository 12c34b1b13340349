#ifndef KOINON_DHT_ROUTING_KNOWN_NODES_H_
#define KOINON_DHT_ROUTING_KNOWN_NODES_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/time/time.h"
#include "dht/key.h"

namespace koinon::dht {

// What a routing table knows of a node that is in it.
struct KnownNode {
  Contact contact;
  absl::Time answered;                      // last
  absl::Time asked = absl::InfinitePast();  // last, by it
  absl::Time pinged;                        // if it is being pinged
  uint64_t order = 0;                       // smaller: has been here for longer
  int failures = 0;
  bool pinging = false;
  bool in_bucket = false;  // else here as a sibling only
  bool sibling = false;
};

// The nodes of a routing table, by their ids: those that share a prefix lie
// side by side, so that a walk over the halves visits them in the order of
// their distance to any target. Not thread-safe.
class KnownNodes {
 public:
  // A node, with what of it is looked at most often: thousands of simulated
  // nodes know hundreds each, and none of them is in a cache.
  struct Slot {
    uint64_t prefix = 0;  // of its id
    absl::Time due;       // not later than it is to be pinged
    std::unique_ptr<KnownNode> node;
  };

  // Requires that no node has its id yet.
  void Insert(std::unique_ptr<KnownNode> node, absl::Time due);
  // Requires that it is here.
  std::unique_ptr<KnownNode> Take(const Key& id);

  // Null: not here. Slots move whenever a node is inserted or taken, nodes do
  // not.
  KnownNode* Find(const Key& id) const;
  Slot* FindSlot(const Key& id);
  // The nearest to `target`, nearest first, at most `count`.
  std::vector<KnownNode*> Nearest(const Key& target, size_t count) const;

  size_t size() const { return slots_.size(); }
  bool empty() const { return slots_.empty(); }
  // In the order of their ids.
  std::vector<Slot>::iterator begin() { return slots_.begin(); }
  std::vector<Slot>::iterator end() { return slots_.end(); }
  std::vector<Slot>::const_iterator begin() const { return slots_.begin(); }
  std::vector<Slot>::const_iterator end() const { return slots_.end(); }

 private:
  using Iterator = std::vector<Slot>::const_iterator;

  // Where it is, or would be.
  size_t PlaceOf(const Key& id) const;
  static void Collect(Iterator begin, Iterator end, const Key& target,
                      size_t count, std::vector<KnownNode*>* nearest);

  std::vector<Slot> slots_;
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_ROUTING_KNOWN_NODES_H_
