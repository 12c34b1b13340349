#include "coordinator/engine/event_loop.h"

#include <utility>

namespace koinon::coordinator {

EventLoop::EventLoop(const Clock* clock, AfterBatch after_batch)
    : clock_(clock), after_batch_(std::move(after_batch)) {}

EventLoop::~EventLoop() { Stop(); }

void EventLoop::Start() {
  thread_ = std::thread([this] { Run(); });
}

void EventLoop::Post(Event event) {
  MutexLock lock(&mutex_);
  if (stopping_) return;
  events_.push_back(std::move(event));
  posted_.Signal();
}

void EventLoop::Stop() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    posted_.SignalAll();
  }
  if (thread_.joinable()) thread_.join();
}

void EventLoop::Run() {
  absl::Time wake = after_batch_();
  std::vector<Event> batch;
  while (NextBatch(wake, &batch)) {
    for (Event& event : batch) event();
    batch.clear();
    wake = after_batch_();
  }
}

bool EventLoop::NextBatch(absl::Time wake, std::vector<Event>* batch) {
  MutexLock lock(&mutex_);
  while (events_.empty() && !stopping_) {
    const absl::Duration wait = wake - clock_->Now();
    if (wait <= absl::ZeroDuration()) break;
    posted_.WaitWithTimeout(&mutex_, wait);
  }
  batch->swap(events_);
  return !(stopping_ && batch->empty());
}

}  // namespace koinon::coordinator
