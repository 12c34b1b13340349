#include "dht/transport/rate_limit.h"

#include <algorithm>

#include "base/check.h"

namespace koinon::dht {

RateLimit::RateLimit(Options options) : options_(options) {
  KOINON_CHECK(options_.per_second > 0 && options_.burst >= 1 &&
               options_.max_identities > 0);
}

bool RateLimit::Take(const Digest& who, absl::Time now) {
  const auto found = buckets_.find(who);
  if (found != buckets_.end()) {
    by_use_.splice(by_use_.begin(), by_use_, found->second);
  } else {
    if (by_use_.size() >= options_.max_identities) {
      buckets_.erase(by_use_.back().who);
      by_use_.pop_back();
    }
    by_use_.push_front({who, options_.burst, now});
    buckets_.emplace(who, by_use_.begin());
  }
  Bucket& bucket = by_use_.front();
  bucket.tokens =
      std::min(options_.burst,
               bucket.tokens + options_.per_second *
                                   absl::ToDoubleSeconds(now - bucket.filled));
  bucket.filled = now;
  if (bucket.tokens < 1) return false;
  bucket.tokens -= 1;
  return true;
}

}  // namespace koinon::dht
