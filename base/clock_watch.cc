#include "base/clock_watch.h"

#include "absl/time/clock.h"
#include "base/log.h"

namespace koinon {

absl::Duration ClockDrift::News(absl::Time process, absl::Time system) {
  const absl::Duration ahead = system - process;
  if (absl::AbsDuration(ahead - said_) < kLeast) return absl::ZeroDuration();
  said_ = ahead;
  // Back where it was: nothing to do about it, though it is remembered.
  return absl::AbsDuration(ahead) < kLeast ? absl::ZeroDuration() : ahead;
}

ClockWatch::ClockWatch(const Clock* clock, absl::Duration interval)
    : thread_([this, clock, interval] { Loop(clock, interval); }) {}

ClockWatch::~ClockWatch() {
  {
    MutexLock lock(&mutex_);
    stopped_ = true;
    changed_.SignalAll();
  }
  thread_.join();
}

void ClockWatch::Loop(const Clock* clock, absl::Duration interval) {
  ClockDrift drift;
  while (true) {
    const absl::Duration ahead = drift.News(clock->Now(), absl::Now());
    if (ahead != absl::ZeroDuration()) {
      LogWarning(
          "the system's clock was set, or the machine slept: certificates and "
          "signatures are judged by the time as it ran on since this process "
          "began; restart it if the system's is right",
          {{"system_is_ahead_by",
            absl::FormatDuration(absl::Trunc(ahead, absl::Seconds(1)))}});
    }
    MutexLock lock(&mutex_);
    if (!stopped_) changed_.WaitWithTimeout(&mutex_, interval);
    if (stopped_) return;
  }
}

}  // namespace koinon
