#ifndef KOINON_DHT_NODE_CORE_H_
#define KOINON_DHT_NODE_CORE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/random.h"
#include "dht/key.h"
#include "dht/node.h"
#include "dht/query/answer_times.h"
#include "dht/query/lookup.h"
#include "dht/routing/lost_nodes.h"
#include "dht/routing/routing_table.h"
#include "dht/store/record_store.h"
#include "dht/transport/transport.h"
#include "proto/dht.pb.h"

namespace koinon::dht {

// What the parts of a node share: who it is, whom it knows, what it keeps, and
// questions to others. Every answer and every silence passes through Ask, and
// there the routing table and the answer times learn of it.
//
// Held by one Node; what is called later finds out by itself whether the node
// is still there. Lives on the node's loop.
class NodeCore : public std::enable_shared_from_this<NodeCore> {
 public:
  NodeCore(Node::Options options, Loop* loop, Transport* transport,
           RecordStore* store);
  // From now on nothing is asked and nothing that waits runs.
  void Stop() { stopped_ = true; }
  bool stopped() const { return stopped_; }

  const Node::Options& options() const { return options_; }
  const Key& self() const { return options_.self.id; }
  bool is_client() const { return options_.self.address.empty(); }
  absl::Time Now() const { return loop_->Now(); }
  RecordStore& store() { return *store_; }
  const RoutingTable& table() const { return table_; }
  RoutingTable& table() { return table_; }
  // Who left the table, and has not come back.
  LostNodes& lost() { return lost_; }
  const AnswerTimes& times() const { return times_; }
  Random& random() { return random_; }

  // Puts the record into this node's store. A RejectedError if that refuses it;
  // RESOURCE_EXHAUSTED if it cannot be written, whatever the disk said: others
  // must not take a broken disk for an absent node, nor learn paths here. The
  // store logs why.
  absl::Status KeepRecord(const Key& key, const v1::Record& record,
                          const Key& writer);

  void Count(absl::string_view counter, int64_t by = 1);
  const std::map<std::string, int64_t>& counters() const { return counters_; }

  // Runs `run` on the loop later, if the node is still there.
  void After(absl::Duration delay, std::function<void()> run);

  // `closer`: the valid ones that the answer named, without this node, at most
  // `max_closer`. Empty for failures.
  using Answered = std::function<void(const absl::StatusOr<v1::AskReply>& reply,
                                      const std::vector<Contact>& closer)>;
  struct AskOptions {
    absl::Duration patience;
    size_t max_closer;
    // Whether the nodes that it names are heard of (Heard) at once.
    bool hear = true;
  };
  // Asks, and waits for as long as anybody waits (times.max_timeout): whoever
  // wants to go on sooner does, and the late answer still counts, so that a
  // machine under load is learnt to be slow rather than taken for dead.
  void Ask(const Contact& to, v1::AskRequest question, Answered done);
  void Ask(const Contact& to, v1::AskRequest question, AskOptions options,
           Answered done);
  // Somebody was heard of: asked whether it is there, if the table has place
  // for it.
  void Heard(const Contact& contact, bool itself = false);
  // As Heard, without asking the table whether it has place.
  void Check(const Contact& contact);
  void Ping(const Contact& contact);
  // Pings that are out or wait to be sent.
  size_t pings_waiting() const { return checks_.size() + pings_out_; }

  // The valid contacts of a message, without this node, at most `limit`.
  std::vector<Contact> ContactsOf(
      const google::protobuf::RepeatedPtrField<v1::Contact>& contacts,
      size_t limit);

  // A walk's options: as wide and as thorough as asked for, with what the
  // answer times say of hedging.
  Lookup::Options WalkOptions(size_t alpha, size_t beta, size_t paths) const;
  // Whether the table holds the whole of a small fleet, as far as this node can
  // tell: the closest nodes are asked for what is wanted directly, without
  // walking there first.
  bool knows_everybody() const;
  // Somebody waits for what this node does as long as one of these lives.
  std::shared_ptr<void> Await() const { return awaited_; }
  // Whether anybody waits now: what nobody waits for is to make way.
  bool is_awaited() const { return awaited_.use_count() > 1; }
  // What AskRequest.closest says of this node's view.
  uint64_t DigestOfClosest(const Key& target) const {
    return table_.DigestOfClosest(target, options_.k, !is_client());
  }
  // Another node's whole table was learnt.
  void MarkViewed() { viewed_ = true; }

  // Set once, by the node: a node entered the table, or left it.
  std::function<void(const Contact&)> on_entered;
  std::function<void(const Contact&)> on_left;

 private:
  void OnReply(const Contact& to, absl::Time asked,
               const AskOptions& ask_options,
               absl::StatusOr<v1::AskReply> reply, const Answered& done);
  // `late`: its end was seen long after it was due.
  void OnFailure(const Contact& to, const absl::Status& status, bool late);
  void CheckMoved(const Contact& contact);
  void PushCheck(const Contact& contact);
  void SendChecks();

  const Node::Options options_;
  Loop* const loop_;
  Transport* const transport_;
  RecordStore* const store_;
  RoutingTable table_;
  LostNodes lost_;
  AnswerTimes times_;
  Random random_;
  std::map<std::string, int64_t> counters_;
  bool stopped_ = false;
  bool viewed_ = false;
  const std::shared_ptr<void> awaited_ = std::make_shared<char>();
  // Nodes that were heard of, to be asked whether they are there.
  std::deque<Contact> checks_;
  std::set<Key> checking_;  // in checks_ or asked
  size_t pings_out_ = 0;
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_NODE_CORE_H_
