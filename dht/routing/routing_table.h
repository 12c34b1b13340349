#ifndef KOINON_DHT_ROUTING_ROUTING_TABLE_H_
#define KOINON_DHT_ROUTING_ROUTING_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "dht/key.h"
#include "dht/routing/bucket.h"
#include "dht/routing/known_nodes.h"

namespace koinon::dht {

// Which nodes a node knows: a bucket for each common prefix, with the nodes
// that answered and a cache of others that would take their places, and the
// sibling list, the nodes nearest to itself whatever their bucket (S/Kademlia,
// Baumgart and Mies 2007, section 4.1). Pure: told `now`, asks for pings in
// what it returns. Not thread-safe.
//
// A node enters once it has answered (checking before adding); it leaves after
// `max_failures` failed questions in a row, and never while it is alive: a full
// bucket keeps what it has, because long-lived nodes live on. Only a sibling
// that nearer ones displace, and whose bucket is full, becomes a replacement.
// Those that left are remembered among the replacements for a while, so that
// the halves of a network that was split find each other again.
//
// A bucket is parted into 16 cells by the next four bits, and has places beside
// its k for cells that have few nodes: what it holds lies all over it, though
// walks lead to one place in it and name what is near there, and whoever looks
// for anything in it begins four bits nearer to it (as with 2^b - 1 buckets for
// each bit: Maymounkov and Mazieres 2002, section 4.2, with b = 5).
//
// As long as all nodes known are at most `full_table`, buckets have no bound:
// small fleets know everybody, and find the closest in one step. Once there are
// more, the oldest of each bucket stay, and it has a bound until there have
// been half as many for a while: how many there are can be seen from how dense
// the siblings lie.
class RoutingTable {
 public:
  struct Options {
    size_t bucket_size = 20;  // k
    // A cell with fewer nodes has place for another, though its bucket has k
    // already. 0: buckets have k places and no more.
    size_t cell_size = 2;
    size_t siblings = 40;  // 2k
    // Of each bucket; as many of them may be checked at the same time.
    size_t replacements = 20;
    int max_failures = 2;
    size_t full_table = 2'048;  // 0: never
    absl::Duration refresh = absl::Minutes(10);
    // A sibling that has been silent for so long is pinged. Its own questions
    // are no silence, until it has not answered for `silence`: of two that are
    // siblings of each other, one pings.
    absl::Duration sibling_silence = absl::Seconds(30);
    // Other nodes: as long as this.
    absl::Duration silence = absl::Minutes(10);
    // A node that left or did not answer is pinged again after so long if there
    // is still place for it, and after three times, nine times, ... as long,
    // `retries` times.
    absl::Duration retry = absl::Minutes(5);
    int retries = 2;
    // A ping that nothing was said about for so long is given out again.
    absl::Duration patience = absl::Minutes(1);
  };

  RoutingTable(const Key& self, Options options);

  // Somebody was heard of: in another's answer, or, `itself`, by its own
  // question. True if it is not known and there is place for it: ping it, and
  // say OnAnswered or OnFailed. Ignores the node itself and contacts without an
  // address. Of those that do not answer, only their own question, or another
  // address than the one where they did not, makes it true again before `retry`
  // has passed. Where it is known already, its own question, from where it is
  // known to be, is a sign of life.
  bool OnHeard(const Contact& contact, absl::Time now, bool itself = false);
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
  // Says in eight bytes which the `count` closest to `target` are, itself among
  // them if it is one and `with_self`: the XOR of their prefixes
  // (key_prefix.h). Two nodes that take the same ones for the closest say the
  // same.
  uint64_t DigestOfClosest(const Key& target, size_t count,
                           bool with_self) const;
  bool Contains(const Key& id) const;
  // Where it is, as far as is known: alive, or waiting for its place. Empty if
  // it is neither.
  std::string AddressOf(const Key& id) const;
  size_t size() const { return alive_.size(); }
  // Whether buckets have no bound: all that have answered since are here.
  bool full() const { return full_; }
  std::vector<Contact> All() const;  // alive, in the order of their ids

  // Nodes to ping now: nodes that failed once, silent siblings, silent nodes,
  // replacements where there is place; at most `count`. Each is given out once
  // until its OnAnswered or OnFailed, or until `patience` has passed.
  std::vector<Contact> ToPing(absl::Time now, size_t count);
  // A place to look up now in each bucket that was not refreshed for `refresh`:
  // the buckets up to the one after the last that has nodes. Marks them as
  // refreshed. `seed` draws the places.
  std::vector<Key> ToRefresh(absl::Time now, uint64_t seed);
  // Before this neither ToPing nor ToRefresh has anything to say, unless
  // something else is called first.
  absl::Time next_deadline() const;

 private:
  size_t BucketOf(const Key& id) const;
  Bucket& GrowTo(size_t bucket);
  void FailWaiting(Bucket& bucket, const Key& id, absl::Time now);
  bool WouldBeSibling(const Key& id) const;
  // Whether it may be one of the bucket's own; whether it is to be checked
  // then, or as a sibling.
  bool IsOpen(size_t bucket, const Key& id) const;
  bool HasPlace(size_t bucket, const Key& id) const;
  void PutInBucket(KnownNode* entry);
  // Somebody who waits there may be due at `when`.
  void LookAgain(Bucket& bucket, absl::Time when);
  void StartPing(Bucket& bucket, Bucket::Waiting* waiting, absl::Time now);
  void Enter(const Contact& contact, absl::Time now);
  void Leave(const Key& id, absl::Time now, bool remember);
  void FillPlace(size_t bucket);
  void JoinSiblings(KnownNode* entry);
  void FindSiblings();
  void Demote(KnownNode* entry);
  void ShrinkToBuckets();
  // By how dense the siblings lie, give or take a sixth.
  double EstimatedNodes() const;
  // Once they have been few for a while.
  void TakeAllAgain(absl::Time now);
  absl::Time DueAt(const KnownNode& entry) const;
  // It is due earlier than it was.
  void SetDue(const KnownNode& entry);
  void PingSilent(absl::Time now, size_t count, std::vector<Contact>* pings);
  void PingWaiting(absl::Time now, size_t count, std::vector<Contact>* pings);
  absl::Time NextPingIn(size_t bucket) const;
  size_t RefreshedBuckets() const;
  void FindNextRefresh();

  const Key self_;
  const Options options_;
  KnownNodes alive_;
  std::vector<KnownNode*> siblings_;  // nearest first
  std::vector<Bucket> buckets_;       // as many as were ever needed
  bool full_;                         // buckets have no bound
  // If they have, and there are far fewer nodes than `full_table`.
  absl::Time few_since_ = absl::InfiniteFuture();
  uint64_t next_order_ = 0;
  // Nothing is to be pinged before; what makes pings due lowers it.
  absl::Time next_ping_ = absl::InfiniteFuture();
  // Of so many buckets, the first to be refreshed.
  size_t refreshed_buckets_ = 0;
  absl::Time next_refresh_ = absl::InfiniteFuture();
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_ROUTING_ROUTING_TABLE_H_
