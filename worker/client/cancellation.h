#ifndef KOINON_WORKER_CLIENT_CANCELLATION_H_
#define KOINON_WORKER_CLIENT_CANCELLATION_H_

#include <functional>
#include <utility>

#include "base/mutex.h"

namespace koinon::worker {

// Stops a call that another thread waits in. Thread-safe; once cancelled, for
// ever cancelled.
class Cancellation {
 public:
  // Runs `hook` when the call is cancelled, at once if it already is, for as
  // long as this object lives. One at a time. The hook runs under a lock, so
  // that what it touches lives: it must only raise a flag or the like.
  class Hook {
   public:
    Hook(Cancellation* cancellation, std::function<void()> hook)
        : cancellation_(cancellation) {
      MutexLock lock(&cancellation_->mutex_);
      if (cancellation_->cancelled_) hook();
      cancellation_->hook_ = std::move(hook);
    }
    ~Hook() {
      MutexLock lock(&cancellation_->mutex_);
      cancellation_->hook_ = nullptr;
    }
    Hook(const Hook&) = delete;
    Hook& operator=(const Hook&) = delete;

   private:
    Cancellation* const cancellation_;
  };

  void Cancel() {
    MutexLock lock(&mutex_);
    if (cancelled_) return;
    cancelled_ = true;
    if (hook_ != nullptr) hook_();
  }
  bool cancelled() const {
    MutexLock lock(&mutex_);
    return cancelled_;
  }

 private:
  mutable Mutex mutex_;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  std::function<void()> hook_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_CLIENT_CANCELLATION_H_
