#ifndef KOINON_WORKER_COLLECTIVE_SHARED_FLAG_H_
#define KOINON_WORKER_COLLECTIVE_SHARED_FLAG_H_

#include <atomic>
#include <cstdint>

#include "absl/time/time.h"

namespace koinon::worker {

// A number in shared memory that its owner raises and others wait for: between
// threads or processes that map the same page. Zero bytes are a flag at 0.
// Numbers wrap around: `target` may be up to 2^31 ahead or behind.
//
// Who waits sleeps in the kernel (futex), so that ranks which have no core of
// their own get on.
class alignas(64) SharedFlag {
 public:
  uint32_t value() const { return value_.load(std::memory_order_acquire); }
  bool Reached(uint32_t target) const {
    return static_cast<int32_t>(value() - target) >= 0;
  }

  // The owner's. What it wrote before is visible to whoever sees the number.
  void Publish(uint32_t value);

  // Whether the number reached `target` within about `timeout`. May return
  // false early.
  bool WaitFor(uint32_t target, absl::Duration timeout) const;

 private:
  std::atomic<uint32_t> value_{0};
  mutable std::atomic<uint32_t> sleepers_{0};
};

static_assert(sizeof(SharedFlag) == 64);
static_assert(std::atomic<uint32_t>::is_always_lock_free);

}  // namespace koinon::worker

#endif  // KOINON_WORKER_COLLECTIVE_SHARED_FLAG_H_
