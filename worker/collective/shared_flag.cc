#include "worker/collective/shared_flag.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <ctime>

namespace koinon::worker {
namespace {

// Not FUTEX_PRIVATE_FLAG: the sleepers may be other processes.
void FutexWait(const std::atomic<uint32_t>* word, uint32_t expected,
               absl::Duration timeout) {
  const timespec limit = absl::ToTimespec(timeout);
  syscall(SYS_futex, word, FUTEX_WAIT, expected, &limit, nullptr, 0);
}

void FutexWakeAll(const std::atomic<uint32_t>* word) {
  syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace

// Either the owner sees the sleeper, or the sleeper sees the new number: both
// write one word and then read the other, in one total order.
void SharedFlag::Publish(uint32_t value) {
  value_.store(value, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) > 0) FutexWakeAll(&value_);
}

bool SharedFlag::WaitFor(uint32_t target, absl::Duration timeout) const {
  sleepers_.fetch_add(1, std::memory_order_seq_cst);
  const uint32_t seen = value_.load(std::memory_order_seq_cst);
  if (static_cast<int32_t>(seen - target) < 0) {
    FutexWait(&value_, seen, timeout);
  }
  sleepers_.fetch_sub(1, std::memory_order_seq_cst);
  return Reached(target);
}

}  // namespace koinon::worker
