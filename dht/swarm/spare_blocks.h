#ifndef KOINON_DHT_SWARM_SPARE_BLOCKS_H_
#define KOINON_DHT_SWARM_SPARE_BLOCKS_H_

#include <cstddef>
#include <string>
#include <vector>

#include "base/mutex.h"

namespace koinon::dht {

// Buffers of blocks that have been sent, to be filled again. Thread-safe.
class SpareBlocks {
 public:
  // Of more than `most`, the rest is freed.
  explicit SpareBlocks(size_t most) : most_(most) {}

  // One of those that were given back, as long as it was; or an empty one.
  std::string Take();
  void Give(std::string buffer);

 private:
  const size_t most_;
  Mutex mutex_;
  std::vector<std::string> buffers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_SWARM_SPARE_BLOCKS_H_
