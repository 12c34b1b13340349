#include "dht/swarm/spare_blocks.h"

#include <utility>

namespace koinon::dht {

std::string SpareBlocks::Take() {
  MutexLock lock(&mutex_);
  if (buffers_.empty()) return "";
  std::string buffer = std::move(buffers_.back());
  buffers_.pop_back();
  return buffer;
}

void SpareBlocks::Give(std::string buffer) {
  MutexLock lock(&mutex_);
  if (buffers_.size() < most_) buffers_.push_back(std::move(buffer));
}

}  // namespace koinon::dht
