#ifndef KOINON_WORKER_SERIAL_THREAD_H_
#define KOINON_WORKER_SERIAL_THREAD_H_

#include <deque>
#include <functional>
#include <thread>
#include <utility>

#include "base/mutex.h"

namespace koinon::worker {

// A thread that does one thing at a time. Thread-safe. The destructor waits for
// what is under way; work that has not begun is dropped.
class SerialThread {
 public:
  SerialThread() : thread_([this] { Run(); }) {}
  ~SerialThread() {
    {
      MutexLock lock(&mutex_);
      stopping_ = true;
      changed_.Signal();
    }
    thread_.join();
  }
  SerialThread(const SerialThread&) = delete;
  SerialThread& operator=(const SerialThread&) = delete;

  // Starts `work` after all that was posted before. Whoever posts bounds what
  // waits.
  void Post(std::function<void()> work) {
    MutexLock lock(&mutex_);
    waiting_.push_back(std::move(work));
    changed_.Signal();
  }

 private:
  void Run() {
    while (true) {
      std::function<void()> work;
      {
        MutexLock lock(&mutex_);
        while (!stopping_ && waiting_.empty()) changed_.Wait(&mutex_);
        if (stopping_) return;
        work = std::move(waiting_.front());
        waiting_.pop_front();
      }
      work();
    }
  }

  Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<std::function<void()>> waiting_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;  // last: uses all the others
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_SERIAL_THREAD_H_
