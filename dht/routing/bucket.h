#ifndef KOINON_DHT_ROUTING_BUCKET_H_
#define KOINON_DHT_ROUTING_BUCKET_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/time/time.h"
#include "dht/key.h"

namespace koinon::dht {

// What a routing table counts and remembers for one bucket: how many of its
// nodes are there, cell by cell, and who waits for a place: others that were
// heard of, and those that left. A value. Not thread-safe.
class Bucket {
 public:
  static constexpr size_t kCellBits = 4;

  struct Waiting {
    Contact contact;
    absl::Time not_before = absl::InfinitePast();  // to be pinged (again)
    int failures = 0;                              // since it left the table
    bool pinging = false;
  };

  // The cell of a key in the bucket with so many common bits.
  static size_t CellOf(size_t bucket, const Key& id);

  // Null: it does not wait. Pointers hold until somebody else comes or goes.
  Waiting* Find(const Key& id);
  // Requires that it is one of those that wait here.
  void Forget(Waiting* waiting);
  // Of more than `limit` the oldest that is not being pinged goes. Null if all
  // are being pinged, or the limit is zero.
  Waiting* Wait(Waiting newcomer, size_t limit);
  // Before all others: it is the first to go.
  void WaitFirst(Waiting newcomer);

  size_t alive = 0;  // nodes in it; of these, in each cell:
  std::array<uint32_t, size_t{1} << kCellBits> in_cell = {};
  std::vector<Waiting> waiting;  // newest last
  absl::Time refreshed = absl::InfinitePast();
  // Not later than when one of those that wait is to be pinged.
  absl::Time next_ping = absl::InfiniteFuture();
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_ROUTING_BUCKET_H_
