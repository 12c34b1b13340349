#ifndef KOINON_DHT_TRANSPORT_RATE_LIMIT_H_
#define KOINON_DHT_TRANSPORT_RATE_LIMIT_H_

#include <cstddef>
#include <list>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "base/digest.h"

namespace koinon::dht {

// How much each of many may ask: a token bucket for each identity. Pure: told
// `now`, which never goes back. Not thread-safe.
class RateLimit {
 public:
  struct Options {
    double per_second = 500;
    double burst = 1'000;  // at least 1
    // Those who were silent longest are forgotten. Somebody silent for
    // burst/per_second has a full bucket anyway.
    size_t max_identities = 4'096;
  };
  explicit RateLimit(Options options);

  // Whether `who` may ask one more now; counts it if so.
  bool Take(const Digest& who, absl::Time now);
  size_t identities() const { return buckets_.size(); }

 private:
  struct Bucket {
    Digest who;
    double tokens = 0;
    absl::Time filled;
  };
  const Options options_;
  std::list<Bucket> by_use_;  // the last to ask first
  absl::flat_hash_map<Digest, std::list<Bucket>::iterator> buckets_;
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_TRANSPORT_RATE_LIMIT_H_
