#ifndef KOINON_COORDINATOR_SPOOL_EXTENTS_H_
#define KOINON_COORDINATOR_SPOOL_EXTENTS_H_

#include <cstdint>
#include <map>
#include <optional>

namespace koinon::coordinator {

// Which parts of a file [0, end) are free: a best-fit allocator that joins
// neighbours on release. Knows nothing of files. A value; not thread-safe.
class FreeExtents {
 public:
  // The smallest free extent that fits, the first of them: large holes stay
  // whole for large updates. nullopt if none fits. Requires size > 0.
  std::optional<uint64_t> Take(uint64_t size);
  // [offset, offset + size) is free from now on. False, with nothing changed,
  // if a part of it is free already.
  bool Add(uint64_t offset, uint64_t size);

  uint64_t largest() const;
  // Of the free extent that reaches up to `end`; 0 if there is none.
  uint64_t size_before(uint64_t end) const;

 private:
  std::map<uint64_t, uint64_t> free_;  // offset -> size
};

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_SPOOL_EXTENTS_H_
