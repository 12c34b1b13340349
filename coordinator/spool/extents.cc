#include "coordinator/spool/extents.h"

#include <algorithm>
#include <iterator>

namespace koinon::coordinator {

std::optional<uint64_t> FreeExtents::Take(uint64_t size) {
  auto best = free_.end();
  for (auto it = free_.begin(); it != free_.end(); ++it) {
    if (it->second < size) continue;
    if (best == free_.end() || it->second < best->second) best = it;
  }
  if (best == free_.end()) return std::nullopt;
  const auto [offset, found] = *best;
  free_.erase(best);
  if (found > size) free_[offset + size] = found - size;
  return offset;
}

bool FreeExtents::Add(uint64_t offset, uint64_t size) {
  auto after = free_.lower_bound(offset);
  if (after != free_.end() && after->first < offset + size) return false;
  auto before = after == free_.begin() ? free_.end() : std::prev(after);
  if (before != free_.end() && before->first + before->second > offset) {
    return false;
  }
  if (after != free_.end() && after->first == offset + size) {
    size += after->second;
    free_.erase(after);
  }
  if (before != free_.end() && before->first + before->second == offset) {
    before->second += size;
  } else {
    free_[offset] = size;
  }
  return true;
}

uint64_t FreeExtents::largest() const {
  uint64_t largest = 0;
  for (const auto& [offset, size] : free_) largest = std::max(largest, size);
  return largest;
}

uint64_t FreeExtents::size_before(uint64_t end) const {
  if (free_.empty()) return 0;
  const auto& [offset, size] = *free_.rbegin();
  return offset + size == end ? size : 0;
}

}  // namespace koinon::coordinator
