#ifndef KOINON_DHT_SWARM_RETENTION_H_
#define KOINON_DHT_SWARM_RETENTION_H_

#include <cstdint>
#include <set>
#include <vector>

#include "absl/types/span.h"

namespace koinon::dht {

// Which versions of a job are kept: the newest few, every so-manieth, and those
// that somebody has pinned. Pure; the coordinator and the workers each have
// one.
struct RetentionPolicy {
  int64_t newest = 0;  // 0: all are kept
  int64_t every = 0;   // versions divisible by it, 0 among them; 0: none
};

// Of `versions` (ascending), those that need not be kept, ascending. The newest
// is always kept.
std::vector<int64_t> VersionsToDrop(const RetentionPolicy& policy,
                                    absl::Span<const int64_t> versions,
                                    const std::set<int64_t>& pinned);

}  // namespace koinon::dht

#endif  // KOINON_DHT_SWARM_RETENTION_H_
