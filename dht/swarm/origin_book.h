#ifndef KOINON_DHT_SWARM_ORIGIN_BOOK_H_
#define KOINON_DHT_SWARM_ORIGIN_BOOK_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/digest.h"
#include "base/mutex.h"
#include "dht/key.h"
#include "dht/swarm/bitmap.h"
#include "dht/swarm/seed_policy.h"

namespace koinon::dht {

// What an origin has given to whom: a SeedPolicy for each content. Thread-safe.
class OriginBook {
 public:
  // `max_finished`: so many that left with the whole of a content are believed
  // to be holders of it still; of more, those that left first are not.
  explicit OriginBook(size_t copies, size_t max_finished = 256)
      : copies_(copies), max_finished_(max_finished) {}

  // Who fetches. `node`: zero of one that says not who it is.
  struct Caller {
    Key node = {};
    SeedPolicy::Place place = {};
    bool serves = false;
  };
  // One stream of one peer. A value; good until Leave.
  struct Seat {
    Digest root;
    SeedPolicy::Peer peer = 0;
  };
  // As SeedPolicy's. Who comes again has what it says now, and no longer what
  // it left with.
  Seat Join(const Digest& root, const Caller& caller, const Bitmap& have);
  // `whole`: it has all of the content. Then, if it serves, it is a holder
  // still, until it is gone, comes again, or enough others have left.
  void Leave(const Seat& seat, bool whole);
  // The node is out of everybody's reach: what it left with is lost, and what
  // it has when its streams end will be, unless it is heard of again: who talks
  // can be reached.
  void OnGone(const Key& node);
  std::optional<uint32_t> Choose(const Seat& seat);
  // The caller's own words, as is OnHave.
  bool Grant(const Seat& seat, uint32_t piece);
  void OnHave(const Seat& seat, uint32_t piece);
  void OnBroken(const Seat& seat, uint32_t piece);

  // What was given out of a content is remembered while somebody fetches it, or
  // `keep` says so.
  template <typename Keep>
  void Forget(Keep keep) {
    MutexLock lock(&mutex_);
    for (auto it = entries_.begin(); it != entries_.end();) {
      const bool gone = it->second.open.empty() && !keep(it->first);
      it = gone ? entries_.erase(it) : std::next(it);
    }
  }

 private:
  struct Member {
    SeedPolicy::Peer peer = 0;
    Key node = {};
    bool serves = false;  // others can fetch from it; not if it came again
    bool stays = false;   // a holder once it has all of it and leaves
  };
  struct Entry {
    // What the node left with, and what it will when its streams end.
    void Lose(const Key& node);
    // It has come again: what its other streams say stands for nothing.
    void Supersede(const Key& node);

    std::unique_ptr<SeedPolicy> policy;
    std::map<SeedPolicy::Peer, Member> open;
    // Who left with all of it, and counts as a holder: of many, the last ones.
    std::deque<Member> finished;
  };
  // Its caller has said something, and so is there.
  void Hear(const Seat& seat) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  SeedPolicy* PolicyOf(const Seat& seat) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const size_t copies_;
  const size_t max_finished_;
  Mutex mutex_;
  std::map<Digest, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  SeedPolicy::Peer next_peer_ ABSL_GUARDED_BY(mutex_) = 1;
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_SWARM_ORIGIN_BOOK_H_
