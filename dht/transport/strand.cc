#include "dht/transport/strand.h"

#include <memory>
#include <utility>

namespace koinon::dht {

Strand::Strand(const Clock* clock)
    : clock_(clock), timer_thread_([this] { RunTimers(); }) {}

Strand::~Strand() { Stop(); }

void Strand::After(absl::Duration delay, std::function<void()> run) {
  if (delay <= absl::ZeroDuration()) return Run(std::move(run));
  const absl::Time at = steady_.Now() + delay;
  MutexLock lock(&mutex_);
  if (stopped_) return;
  const bool first = timers_.empty() || at < timers_.top().at;
  timers_.push({at, next_timer_++, std::move(run)});
  if (first) timers_changed_.Signal();
}

void Strand::Run(std::function<void()> run) {
  MutexLock lock(&mutex_);
  if (stopped_) {
    // It is the caller's to destroy, after the lock.
    return;
  }
  waiting_.push_back(std::move(run));
  if (!busy_) Drain();
}

void Strand::Drain() {
  busy_ = true;
  while (!stopped_ && !waiting_.empty()) {
    std::function<void()> run = std::move(waiting_.front());
    waiting_.pop_front();
    mutex_.Unlock();
    run();
    run = nullptr;  // what it holds may call back
    mutex_.Lock();
  }
  busy_ = false;
  idle_.SignalAll();
}

void Strand::RunAndWait(const std::function<void()>& run) {
  // Tells when it is destroyed, which is after it has run or instead.
  struct Gate {
    Mutex mutex;
    CondVar opened;
    bool open = false;
  };
  struct Opener {
    explicit Opener(std::shared_ptr<Gate> gate) : gate(std::move(gate)) {}
    ~Opener() {
      MutexLock lock(&gate->mutex);
      gate->open = true;
      gate->opened.SignalAll();
    }
    const std::shared_ptr<Gate> gate;
  };
  const auto gate = std::make_shared<Gate>();    // and the opener
  auto opener = std::make_shared<Opener>(gate);  // and the function below
  Run([opener = std::move(opener), &run] { run(); });
  MutexLock lock(&gate->mutex);
  while (!gate->open) gate->opened.Wait(&gate->mutex);
}

void Strand::RunTimers() {
  MutexLock lock(&mutex_);
  while (!stopped_) {
    if (timers_.empty()) {
      timers_changed_.Wait(&mutex_);
      continue;
    }
    const absl::Duration left = timers_.top().at - steady_.Now();
    if (left > absl::ZeroDuration()) {
      timers_changed_.WaitWithTimeout(&mutex_, left);
      continue;
    }
    // The queue only lends its first.
    waiting_.push_back(std::move(const_cast<Timer&>(timers_.top()).run));
    timers_.pop();
    if (!busy_) Drain();
  }
}

void Strand::Stop() {
  std::deque<std::function<void()>> waiting;
  std::priority_queue<Timer> timers;
  {
    MutexLock lock(&mutex_);
    stopped_ = true;
    timers_changed_.SignalAll();
    while (busy_) idle_.Wait(&mutex_);
    waiting.swap(waiting_);
    timers.swap(timers_);
  }
  if (timer_thread_.joinable()) timer_thread_.join();
}

}  // namespace koinon::dht
