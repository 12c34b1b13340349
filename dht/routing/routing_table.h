#ifndef KOINON_DHT_ROUTING_ROUTING_TABLE_H_
#define KOINON_DHT_ROUTING_ROUTING_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "absl/time/time.h"
#include "dht/key.h"

namespace koinon::dht {

// Which nodes a node knows: 256 buckets by common prefix, each with the nodes
// that answered and a cache of others that would take their places, and the
// sibling list, the nodes nearest to itself whatever their bucket (S/Kademlia,
// Baumgart and Mies 2007, section 4.1). Pure: told `now`, asks for pings in
// what it returns. Not thread-safe.
//
// A node enters once it has answered (checking before adding); it leaves after
// `max_failures` failed questions in a row, and never while it is alive: a full
// bucket keeps what it has, because long-lived nodes live on.
//
// As long as all nodes known are at most `full_table`, buckets have no bound:
// small fleets know everybody, and find the closest in one step.
class RoutingTable {
 public:
  struct Options {
    size_t bucket_size = 20;   // k
    size_t siblings = 40;      // 2k
    size_t replacements = 20;  // of each bucket
    int max_failures = 2;
    size_t full_table = 2'048;  // 0: never
    absl::Duration refresh = absl::Minutes(10);
    // A sibling that has been silent for so long is pinged.
    absl::Duration sibling_silence = absl::Seconds(30);
    // Other nodes: as long as this.
    absl::Duration silence = absl::Minutes(10);
  };

  RoutingTable(const Key& self, Options options);

  // Somebody was heard of: by its own question, or in another's answer. True if
  // it is new and there is place for it: ping it, and say OnAnswered or
  // OnFailed. Ignores the node itself and contacts without an address.
  bool OnHeard(const Contact& contact, absl::Time now);
  // It answered a question. True if it has entered the table by this. A known
  // node that answers from another address moves there.
  bool OnAnswered(const Contact& contact, absl::Time now);
  // A question to it failed. True if it has left the table by this; a
  // replacement, if there is one, is then to be pinged (ToPing).
  bool OnFailed(const Key& id, absl::Time now);
  // It said goodbye, or it lied.
  void Remove(const Key& id);

  // The alive nodes closest to `target`, closest first, at most `count`.
  std::vector<Contact> Closest(const Key& target, size_t count) const;
  // The k nodes closest to itself: those it shares records with.
  std::vector<Contact> Siblings() const;
  bool Contains(const Key& id) const;
  size_t size() const { return alive_.size(); }
  std::vector<Contact> All() const;  // alive, in the order of their ids

  // Nodes to ping now: silent siblings, silent nodes, nodes that failed once,
  // replacements for those that left; at most `count`. Each is given out once
  // until its OnAnswered or OnFailed.
  std::vector<Contact> ToPing(absl::Time now, size_t count);
  // A place in each bucket to look up now, because nobody in it was heard of
  // for `refresh`: the buckets up to the one after the last that has nodes.
  // Marks them as refreshed. `seed` draws the places.
  std::vector<Key> ToRefresh(absl::Time now, uint64_t seed);
  // When ToPing or ToRefresh may have something to say.
  absl::Time next_deadline() const;

 private:
  struct Entry {
    Contact contact;
    absl::Time added;
    absl::Time answered;  // last
    int failures = 0;
    bool pinging = false;
  };
  struct Bucket {
    std::vector<Key> alive;        // oldest first
    std::vector<Contact> waiting;  // replacements, newest last
    absl::Time refreshed = absl::InfinitePast();
  };
  // The implementation owns what follows; it may be changed freely.
  const Key self_;
  const Options options_;
  std::map<Key, Entry> alive_;
  std::vector<Bucket> buckets_;
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_ROUTING_ROUTING_TABLE_H_
