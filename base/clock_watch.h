#ifndef KOINON_BASE_CLOCK_WATCH_H_
#define KOINON_BASE_CLOCK_WATCH_H_

#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/mutex.h"

namespace koinon {

// Says when the system's clock and a process's have parted: somebody set the
// one, a late synchronisation did, or the machine slept. The process's goes on
// as it began (Clock::Now), so that no lease ends early; but certificates and
// signatures are then judged by a time that is not everybody's, until a
// restart.
//
// Pure: told both times, answers by how much the system's is ahead when that
// is news.
class ClockDrift {
 public:
  // Less is slewing, or a reading that was interrupted.
  static constexpr absl::Duration kLeast = absl::Seconds(60);

  // How far `system` is ahead of `process` (negative: behind), once for each
  // step of kLeast or more from what was said before; else zero.
  absl::Duration News(absl::Time process, absl::Time system);

 private:
  absl::Duration said_ = absl::ZeroDuration();
};

// Looks every `interval`, in a thread of its own, and warns in the log. The
// pointer must outlive it.
class ClockWatch {
 public:
  explicit ClockWatch(const Clock* clock,
                      absl::Duration interval = absl::Seconds(30));
  ~ClockWatch();

 private:
  void Loop(const Clock* clock, absl::Duration interval);

  Mutex mutex_;
  CondVar changed_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // uses everything above
};

}  // namespace koinon

#endif  // KOINON_BASE_CLOCK_WATCH_H_
