#ifndef KOINON_DHT_NODE_SPREAD_H_
#define KOINON_DHT_NODE_SPREAD_H_

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "dht/key.h"
#include "dht/node.h"
#include "dht/node_core.h"
#include "dht/node_walk.h"
#include "dht/query/lookup.h"
#include "proto/dht.pb.h"

namespace koinon::dht {

// Gives something (a record, the news of a provider) to the k nodes closest to
// a key, this one included if it is one of them.
//
//  1. A walk finds the closest: all k of them must have answered. A node that
//     knows everybody skips it: its walk is made of the giving itself, begins
//     at the closest that it knows, and goes on to closer ones that those name,
//     so that a gap in its table costs an extra copy and never a missing one.
//  2. This node keeps it, if it is one of them; the others are asked to, all at
//     once.
//  3. Once `quorum` have kept it (or all, if there are fewer), `done` runs. The
//     rest goes on. In the end a majority of fewer nodes will do.
//
// Owned by what waits for it.
class Spread : public std::enable_shared_from_this<Spread> {
 public:
  struct Plan {
    Key key;
    v1::AskRequest question;  // PutRecord or AddProvider
    // Keeps it here.
    std::function<absl::Status()> keep;
    size_t quorum = 1;
    // Once, never inside Start. UNAVAILABLE if the quorum was not reached; a
    // RejectedError if that is because half of the nodes or more refused it.
    std::function<void(absl::StatusOr<Node::PutResult>)> done;
  };
  static void Start(NodeCore* core, Plan plan);

  Spread(NodeCore* core, Plan plan) : core_(core), plan_(std::move(plan)) {}

 private:
  void FindThenGive();
  void GiveWhileWalking();
  void OnFound(Walk::Outcome outcome);
  void OnWalked(Walk::Outcome outcome);
  bool IsAmong(const std::vector<Contact>& closest) const;
  void KeepHere();
  void OnGiven(const absl::StatusOr<v1::AskReply>& reply);
  void Rejected(const std::string& reason);
  // `finished`: nobody is left to hear of.
  void Conclude(bool finished);
  size_t Wanted(bool finished) const;
  absl::Status Failure() const;

  NodeCore* const core_;
  Plan plan_;
  Node::PutResult result_;
  size_t targets_ = 0;  // the closest, this node included if it is one
  size_t waiting_ = 0;
  size_t refused_ = 0;
  size_t failed_ = 0;     // that answered, but could not
  absl::Status failure_;  // the last question that came to nothing
  bool done_ = false;
};

// Stores a record. What this node itself would refuse is refused at once.
void PutRecord(NodeCore* core, const Key& key, v1::Record record, size_t quorum,
               std::function<void(absl::StatusOr<Node::PutResult>)> done);

}  // namespace koinon::dht

#endif  // KOINON_DHT_NODE_SPREAD_H_
