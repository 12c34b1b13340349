#include "dht/routing/bucket.h"

#include <algorithm>
#include <utility>

#include "dht/routing/key_prefix.h"

namespace koinon::dht {

size_t Bucket::CellOf(size_t bucket, const Key& id) {
  size_t cell = 0;
  for (size_t bit = bucket + 1; bit <= bucket + kCellBits; ++bit) {
    cell = 2 * cell + (bit < 8 * Key::kSizeBytes && BitAt(id, bit));
  }
  return cell;
}

Bucket::Waiting* Bucket::Find(const Key& id) {
  const uint64_t prefix = PrefixOf(id);
  const auto found =
      std::find_if(waiting.begin(), waiting.end(), [&](const Waiting& w) {
        return PrefixOf(w.contact.id) == prefix && w.contact.id == id;
      });
  return found == waiting.end() ? nullptr : &*found;
}

void Bucket::Forget(Waiting* forgotten) {
  waiting.erase(waiting.begin() + (forgotten - waiting.data()));
}

Bucket::Waiting* Bucket::Wait(Waiting newcomer, size_t limit) {
  if (limit == 0) return nullptr;
  if (waiting.size() >= limit) {
    const auto oldest =
        std::find_if(waiting.begin(), waiting.end(),
                     [](const Waiting& w) { return !w.pinging; });
    if (oldest == waiting.end()) return nullptr;
    waiting.erase(oldest);
  }
  waiting.push_back(std::move(newcomer));
  return &waiting.back();
}

void Bucket::WaitFirst(Waiting newcomer) {
  waiting.insert(waiting.begin(), std::move(newcomer));
}

}  // namespace koinon::dht
