#ifndef KOINON_DHT_SWARM_LIAR_BOOK_H_
#define KOINON_DHT_SWARM_LIAR_BOOK_H_

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "dht/key.h"

namespace koinon::dht {

// Who has sent bytes or hashes that are not the content's, in any fetch of this
// process: by node id, which is proven by a certificate (in plaintext everybody
// is who they claim to be). Kept in memory. Thread-safe.
class LiarBook {
 public:
  struct Options {
    absl::Duration ban = absl::Seconds(30);
    int strikes = 3;  // then for good
    // Of more, those whose ban ends first are forgotten.
    size_t max_nodes = 1000;
  };
  LiarBook() : LiarBook(Options()) {}
  explicit LiarBook(Options options) : options_(options) {}

  // One more lie of the node, which is banned from now on. How many there are
  // of it: 1 for a node whose id is not known (zero), which is not banned.
  int Count(const Key& node, absl::Time now);
  // OK if the node may be asked; UNAVAILABLE while it is banned,
  // PERMISSION_DENIED when that is for good.
  absl::Status MayAsk(const Key& node, absl::Time now) const;

  // Of all nodes, also those that were forgotten.
  int64_t lies() const;
  // The `count` that have lied most, with how often.
  std::vector<std::pair<Key, int>> Worst(size_t count) const;

 private:
  struct Record {
    int strikes = 0;
    absl::Time until;  // InfiniteFuture: for good
  };
  void MakeRoom() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Options options_;
  mutable Mutex mutex_;
  absl::flat_hash_map<Key, Record> records_ ABSL_GUARDED_BY(mutex_);
  int64_t lies_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_SWARM_LIAR_BOOK_H_
