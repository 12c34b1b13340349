#ifndef KOINON_DHT_NODE_MEMBERSHIP_H_
#define KOINON_DHT_NODE_MEMBERSHIP_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "dht/key.h"
#include "dht/node_core.h"

namespace koinon::dht {

// Keeps a node in the network: the first contact, looking itself up, places in
// its buckets that nobody was heard from, the whole table of a small fleet, and
// the way back after a split.
//
// Nodes that left the table are remembered, and one of them is asked now and
// then (routing/lost_nodes.h): when a network that was split heals, after
// minutes or after days, the first that answers is enough to look oneself up on
// the other side. Where all have left, all are asked again and again.
// Addresses to join by are tried again too while nobody is known there.
//
// Lives on the node's loop.
class Membership {
 public:
  explicit Membership(NodeCore* core) : core_(core) {}

  // As Node::Join.
  void Join(std::vector<std::string> addresses,
            std::function<void(absl::Status)> done);
  void OnEntered(const Contact& contact);
  // To be called every second or so.
  void Tick();

 private:
  struct Bootstrap {
    std::string address;
    Key id;  // who was there; zero: nobody yet
  };

  void Attempt();
  void OnFirstContact(size_t bootstrap, const absl::StatusOr<v1::AskReply>& r);
  void OnAttemptEnded();
  void ConcludeJoin(absl::Status status);
  // Looks itself up, then every bucket that is due, then calls `done`.
  void LookAround(std::function<void()> done);
  void RefreshBuckets(std::function<void()> done);
  void RefreshNext();
  void ViewTables();
  void CheckViews();
  void AskBootstraps();
  void AskForTable(const Contact& contact);
  void AskLostOnes();
  void AskAllLostOnes();
  void OnFoundAgain(const Contact& contact);

  NodeCore* const core_;
  std::vector<Bootstrap> bootstraps_;
  std::function<void(absl::Status)> joined_;
  // The attempt that is under way.
  size_t waiting_ = 0;
  size_t own_ = 0;  // addresses where this node itself answered
  bool reached_ = false;
  absl::Duration back_off_ = absl::Seconds(1);
  absl::Time next_attempt_ = absl::InfinitePast();
  absl::Time next_bootstrap_ = absl::InfinitePast();
  absl::Duration bootstrap_interval_ = absl::Minutes(1);

  std::deque<Key> to_refresh_;
  size_t refreshing_ = 0;
  std::vector<std::function<void()>> refreshed_;

  absl::Time alone_since_ = absl::InfiniteFuture();
  absl::Time next_lost_ = absl::InfinitePast();
  bool look_around_ = false;  // somebody has come back
  absl::Time next_look_ = absl::InfinitePast();

  // What another named of its table, and what became of those so far.
  struct View {
    std::vector<Contact> named;
    size_t next = 0;  // to be asked
    size_t out = 0;
    size_t answered = 0;
    size_t failed = 0;
  };
  std::deque<View> views_;  // the first is gone through
  absl::Time next_view_ = absl::InfinitePast();
  absl::Duration view_interval_ = absl::Seconds(5);
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_NODE_MEMBERSHIP_H_
