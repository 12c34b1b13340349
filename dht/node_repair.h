#ifndef KOINON_DHT_NODE_REPAIR_H_
#define KOINON_DHT_NODE_REPAIR_H_

#include <cstddef>
#include <deque>
#include <map>
#include <set>

#include "dht/key.h"
#include "dht/node_core.h"

namespace koinon::dht {

// Keeps every record that is held here with the k nodes closest to its key,
// whoever comes and goes. When a node enters the table and is one of them, it
// is given the record; when one leaves, whoever has moved up is. So a value
// outlives its holders as long as they go no faster than that is noticed.
//
// Of the k holders, only the kActing closest act, and the others leave it to
// them: more would send the same again. Who has just entered is none of these:
// it has nothing yet. Republishing (node_upkeep) makes good what these should
// fail to do.
//
// Records are gone through in portions, so that a large store never holds up
// the loop, and handed on a few at a time; one at a time while somebody waits
// for what this node puts or gets, and none to who answers that it has too much
// to do, for a while: many may give the same newcomer all they have. Lives on
// the node's loop.
class Repair {
 public:
  static constexpr size_t kActing = 4;

  explicit Repair(NodeCore* core) : core_(core) {}

  void OnEntered(const Contact& contact) {
    entered_.insert(contact.id);
    left_.erase(contact.id);
  }
  void OnLeft(const Contact& contact) {
    left_.insert(contact.id);
    busy_.erase(contact.id);
  }
  // To be called every second or so.
  void Tick();

 private:
  struct HandOn {
    Key key;
    Contact to;
    int attempts = 0;
  };

  void BeginPass();
  void Examine(const Key& key);
  void SendSome();
  void OnHandedOn(HandOn hand_on, const absl::StatusOr<v1::AskReply>& reply);

  NodeCore* const core_;
  // Since the last pass began.
  std::set<Key> entered_;
  std::set<Key> left_;
  // Of the pass that is under way.
  std::set<Key> pass_entered_;
  std::set<Key> pass_left_;
  std::deque<Key> to_examine_;
  std::deque<HandOn> to_send_;
  // For those who have too much to do, until the next tick: by record.
  std::map<Key, std::map<Key, HandOn>> resting_;
  std::map<Key, int> busy_;  // for how many ticks they have taken nothing
  size_t sending_ = 0;
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_NODE_REPAIR_H_
