#ifndef KOINON_DHT_NODE_WALK_H_
#define KOINON_DHT_NODE_WALK_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/container/node_hash_map.h"
#include "absl/time/time.h"
#include "dht/key.h"
#include "dht/node_core.h"
#include "dht/query/lookup.h"
#include "proto/dht.pb.h"

namespace koinon::dht {

// Drives one Lookup: sends its questions, gives up waiting for slow nodes, and
// says what each answer held.
//
// A node's word is trusted for a few of those that it names. Only once one of
// them has answered are more asked on its word, and if none does, all are
// dropped: else a few liars, who can invent any number of nodes next to any
// key, would use up every walk's questions.
//
// Nor is a node's word taken for where another is: who does not answer at one
// address is asked at the next that was named, and what the routing table has
// comes first.
//
// Owned by what waits for it: answers and timers.
class Walk : public std::enable_shared_from_this<Walk> {
 public:
  enum class Verdict {
    kGoOn,      // walk on to the nodes that it named
    kDistrust,  // as if it had not answered
    kStop,      // what was looked for is found
  };
  // What a walk came to.
  struct Outcome {
    std::vector<Contact> closest;    // Lookup::Closest
    std::vector<Contact> heard;      // Lookup::Heard
    std::vector<Lookup::Step> path;  // who was asked indeed
    // Who was named, and never asked.
    std::vector<Contact> unasked;
    size_t depth = 0;
    unsigned caps = Lookup::kNone;
  };
  struct Plan {
    Key target;
    Lookup::Options options;
    std::vector<Contact> seeds;
    std::set<Key> exclude;    // are not asked, whoever names them
    v1::AskRequest question;  // that each node is asked
    // Null: walk on. Not called any more once the walk is over.
    std::function<Verdict(const Contact&, const v1::AskReply&)> on_answer;
    // May be null. Each question that came to nothing, until the walk is over.
    std::function<void(const absl::Status&)> on_failure = nullptr;
    // Once, never inside Start.
    std::function<void(Outcome)> done;
  };
  static void Start(NodeCore* core, Plan plan);

  Walk(NodeCore* core, Plan plan);

 private:
  // Somebody that the walk has heard of.
  struct Seen {
    Contact contact;  // as it was named first
    // Where it is said to be, in the order of hearing.
    absl::InlinedVector<std::string, 1> addresses;
    size_t tried = 0;  // the first so many
    size_t out = 0;    // questions that wait for an answer
    std::string answered;
    bool asked = false;
    absl::Time patience =
        absl::InfiniteFuture();  // until when it is waited for
    // Those that named it; none of a seed. The first so many of them wait for
    // its answer.
    bool seed = false;
    absl::InlinedVector<Seen*, 2> by;
    size_t charged = 0;
    // What became of those that it named.
    size_t waiting = 0;
    size_t failed = 0;
    bool good = false;      // one has answered
    uint64_t heard_in = 0;  // the last answer that named it
  };
  enum class Trust { kAsk, kHold, kDrop };

  void Proceed();
  void AskOrHold(const Contact& next);
  void Send(Seen* next);
  Seen* HearOf(const Contact& contact);
  void AskAtNext(Seen* node);
  // Whether there was another address to ask it at.
  bool TryElsewhere(Seen* node);
  void SayWhere(std::vector<Contact>* contacts) const;
  void GiveUp(Seen* node);
  void Settle(Seen* node, bool answered);
  // What the words of those that named it are worth together.
  static Trust TrustIn(const Seen& node);
  void Learn(Seen* from, const std::vector<Contact>& closer);
  void ReviewHeld();
  void OnReply(Seen* from, const std::string& address,
               const absl::StatusOr<v1::AskReply>& reply,
               const std::vector<Contact>& closer);
  void SetTimer();
  void OnTimer();
  std::vector<Contact> Unasked() const;
  void Finish();

  NodeCore* const core_;
  Plan plan_;
  Lookup lookup_;
  absl::node_hash_map<Key, Seen> seen_;
  std::vector<Seen*> waited_;  // those with patience, in the order of asking
  size_t asked_ = 0;
  size_t asked_elsewhere_ = 0;
  uint64_t answers_ = 0;
  std::vector<Contact> held_;
  const size_t max_questions_;
  bool capped_ = false;
  absl::Time timer_ = absl::InfiniteFuture();
  bool finished_ = false;
};

// A walk that asks everybody for the nodes closest to `target`.
Walk::Plan FindNodePlan(NodeCore* core, const Key& target, size_t alpha,
                        size_t beta);

}  // namespace koinon::dht

#endif  // KOINON_DHT_NODE_WALK_H_
