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

  // One stream of one peer. A value; good until Leave.
  struct Seat {
    Digest root;
    SeedPolicy::Peer peer = 0;
  };
  // As SeedPolicy's; here a peer that left, and was not lost, is lost once
  // enough others have left.
  Seat Join(const Digest& root, const SeedPolicy::Place& place, bool serves,
            const Bitmap& have);
  void Leave(const Seat& seat, bool lost);
  std::optional<uint32_t> Choose(const Seat& seat);
  bool Grant(const Seat& seat, uint32_t piece);
  void OnHave(const Seat& seat, uint32_t piece);
  void OnBroken(const Seat& seat, uint32_t piece);

  // What was given out of a content is remembered while somebody fetches it, or
  // `keep` says so.
  template <typename Keep>
  void Forget(Keep keep) {
    MutexLock lock(&mutex_);
    for (auto it = entries_.begin(); it != entries_.end();) {
      const bool gone = it->second.seats == 0 && !keep(it->first);
      it = gone ? entries_.erase(it) : std::next(it);
    }
  }

 private:
  struct Entry {
    std::unique_ptr<SeedPolicy> policy;
    size_t seats = 0;
    // Who left with all of it, and counts as a holder: of many, the last ones.
    std::deque<SeedPolicy::Peer> finished;
  };
  SeedPolicy* PolicyOf(const Seat& seat) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const size_t copies_;
  const size_t max_finished_;
  Mutex mutex_;
  std::map<Digest, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  SeedPolicy::Peer next_peer_ ABSL_GUARDED_BY(mutex_) = 1;
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_SWARM_ORIGIN_BOOK_H_
