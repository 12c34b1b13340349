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
    // So many lies, and the node is banned until it has not lied for `clean`.
    // By then its lies are forgotten: disks of honest nodes fail too.
    int strikes = 3;
    absl::Duration clean = absl::Hours(24);
    // Of more, those whose ban ends first are forgotten.
    size_t max_nodes = 1000;
  };
  LiarBook() : LiarBook(Options()) {}
  explicit LiarBook(Options options) : options_(options) {}

  // One more lie of the node, which is banned from now on. How many there have
  // been of it: 1 for a node whose id is not known (zero), which is not banned.
  int Count(const Key& node, absl::Time now);
  // OK if the node may be asked; UNAVAILABLE while it is banned for a while,
  // PERMISSION_DENIED while it is until it has been clean.
  absl::Status MayAsk(const Key& node, absl::Time now) const;

  // Of all nodes, also those that were forgotten.
  int64_t lies() const;
  // The `count` that have lied most, with how often.
  std::vector<std::pair<Key, int>> Worst(size_t count) const;

 private:
  struct Record {
    int lies = 0;
    int strikes = 0;  // lies with less than `clean` between each and the next
    absl::Time last;
  };
  absl::Duration BanOf(const Record& record) const;
  void MakeRoom() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Options options_;
  mutable Mutex mutex_;
  absl::flat_hash_map<Key, Record> records_ ABSL_GUARDED_BY(mutex_);
  int64_t lies_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_SWARM_LIAR_BOOK_H_
