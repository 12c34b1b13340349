#ifndef KOINON_DHT_NODE_WALK_H_
#define KOINON_DHT_NODE_WALK_H_

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "absl/time/time.h"
#include "dht/key.h"
#include "dht/node_core.h"
#include "dht/query/lookup.h"
#include "proto/dht.pb.h"

namespace koinon::dht {

// Drives one Lookup: sends its questions, gives up waiting for slow nodes, and
// says what each answer held. Owned by what waits for it: answers and timers.
class Walk : public std::enable_shared_from_this<Walk> {
 public:
  enum class Verdict {
    kGoOn,      // walk on to the nodes that it named
    kDistrust,  // as if it had not answered
    kStop,      // what was looked for is found
  };
  struct Plan {
    Key target;
    Lookup::Options options;
    std::vector<Contact> seeds;
    v1::AskRequest question;  // that each node is asked
    // Null: walk on. Not called any more once the walk is over.
    std::function<Verdict(const Contact&, const v1::AskReply&)> on_answer;
    // Once, never inside Start.
    std::function<void(const Lookup&)> done;
  };
  static void Start(NodeCore* core, Plan plan);

  Walk(NodeCore* core, Plan plan);

 private:
  void Proceed();
  void OnReply(const Contact& from, const absl::StatusOr<v1::AskReply>& reply,
               const std::vector<Contact>& closer);
  void SetTimer();
  void OnTimer();
  void Finish();

  NodeCore* const core_;
  Plan plan_;
  Lookup lookup_;
  std::map<Key, absl::Time> patience_;  // until when each is waited for
  absl::Time timer_ = absl::InfiniteFuture();
  bool finished_ = false;
};

// A walk that asks everybody for the nodes closest to `target`.
Walk::Plan FindNodePlan(NodeCore* core, const Key& target, size_t alpha,
                        size_t beta);

}  // namespace koinon::dht

#endif  // KOINON_DHT_NODE_WALK_H_
