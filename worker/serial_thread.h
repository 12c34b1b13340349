#ifndef KOINON_WORKER_SERIAL_THREAD_H_
#define KOINON_WORKER_SERIAL_THREAD_H_

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

  // Starts `work`, after that under way. At most one may wait: whoever posts
  // knows when the one before has ended.
  void Post(std::function<void()> work) {
    MutexLock lock(&mutex_);
    next_ = std::move(work);
    changed_.Signal();
  }

 private:
  void Run() {
    while (true) {
      std::function<void()> work;
      {
        MutexLock lock(&mutex_);
        while (!stopping_ && next_ == nullptr) changed_.Wait(&mutex_);
        if (stopping_) return;
        std::swap(work, next_);
      }
      work();
    }
  }

  Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::function<void()> next_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;  // last: uses all the others
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_SERIAL_THREAD_H_
