#include "dht/swarm/retention.h"

#include <cstddef>

namespace koinon::dht {

std::vector<int64_t> VersionsToDrop(const RetentionPolicy& policy,
                                    absl::Span<const int64_t> versions,
                                    const std::set<int64_t>& pinned) {
  std::vector<int64_t> dropped;
  if (policy.newest <= 0) return dropped;
  for (size_t i = 0; i < versions.size(); ++i) {
    const int64_t version = versions[i];
    const int64_t newer = static_cast<int64_t>(versions.size() - 1 - i);
    const bool kept = newer < policy.newest ||
                      (policy.every > 0 && version % policy.every == 0) ||
                      pinned.contains(version);
    if (!kept) dropped.push_back(version);
  }
  return dropped;
}

}  // namespace koinon::dht
