#ifndef KOINON_BASE_CLOCK_H_
#define KOINON_BASE_CLOCK_H_

#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "base/mutex.h"

namespace koinon {

// Where time comes from. State machines are told `now`; drivers ask a Clock.
// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;

  // The present. Never goes back while the process lives: a step of the
  // system's clock neither ends a lease nor prolongs a deadline.
  virtual absl::Time Now() const = 0;
};

// The wall clock as it stood when this object was made, carried on by the
// steady clock.
class RealClock final : public Clock {
 public:
  RealClock();
  absl::Time Now() const override;

 private:
  const absl::Time wall_start_;
  const int64_t steady_start_ns_;
};

// Time that moves only when told to. For tests.
class ManualClock final : public Clock {
 public:
  explicit ManualClock(absl::Time start) : now_(start) {}
  absl::Time Now() const override {
    MutexLock lock(&mutex_);
    return now_;
  }
  // Requires delta >= 0.
  void Advance(absl::Duration delta) {
    MutexLock lock(&mutex_);
    now_ += delta;
  }

 private:
  mutable Mutex mutex_;
  absl::Time now_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace koinon

#endif  // KOINON_BASE_CLOCK_H_
