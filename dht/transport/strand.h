#ifndef KOINON_DHT_TRANSPORT_STRAND_H_
#define KOINON_DHT_TRANSPORT_STRAND_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <queue>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "dht/transport/transport.h"

namespace koinon::dht {

// A loop without a thread of its own: what is to run runs on whichever thread
// brings it, one at a time and in order; if another is at it already, that one
// runs it next. So an answer that comes in on one of gRPC's threads is worked
// on there and then. Only timers have a thread.
//
// Delays pass in real time; Now is the clock's. Thread-safe.
class Strand final : public Loop {
 public:
  // `clock` is borrowed.
  explicit Strand(const Clock* clock);
  // As Stop.
  ~Strand() override;

  absl::Time Now() const override { return clock_->Now(); }
  void After(absl::Duration delay, std::function<void()> run) override;

  // Runs `run` before it returns, or leaves it to the thread that is on the
  // strand; from the strand itself: after what runs now.
  void Run(std::function<void()> run);
  // As Run, and returns once it has run, or has been dropped because the strand
  // stopped. Not from the strand itself.
  void RunAndWait(const std::function<void()>& run);

  // Nothing runs from now on: what is waiting is destroyed. Returns when what
  // runs has ended. Not from the strand itself.
  void Stop();

 private:
  struct Timer {
    absl::Time at;  // steady
    uint64_t number;
    std::function<void()> run;
    bool operator<(const Timer& other) const {  // the first is the largest
      return at != other.at ? at > other.at : number > other.number;
    }
  };
  void Drain() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RunTimers();

  const Clock* const clock_;
  const RealClock steady_;
  Mutex mutex_;
  CondVar idle_;
  CondVar timers_changed_;
  bool busy_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<std::function<void()>> waiting_ ABSL_GUARDED_BY(mutex_);
  std::priority_queue<Timer> timers_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_timer_ ABSL_GUARDED_BY(mutex_) = 0;
  std::thread timer_thread_;
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_TRANSPORT_STRAND_H_
