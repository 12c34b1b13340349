#ifndef KOINON_COORDINATOR_ENGINE_EVENT_LOOP_H_
#define KOINON_COORDINATOR_ENGINE_EVENT_LOOP_H_

#include <functional>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "base/clock.h"
#include "base/mutex.h"

namespace koinon::coordinator {

// One thread that runs posted events in order, in batches: whatever has come
// in while the last batch ran makes up the next. What must be done once for
// many events (a commit, a sync) is done after the batch.
class EventLoop {
 public:
  using Event = std::function<void()>;
  // Runs after each batch, on the loop's thread; returns when to run again even
  // if nothing is posted.
  using AfterBatch = std::function<absl::Time()>;

  EventLoop(const Clock* clock, AfterBatch after_batch);
  // Stops, if Stop was not called.
  ~EventLoop();

  void Start();
  // Thread-safe. Events posted after Stop are dropped (destroyed unrun).
  void Post(Event event);
  // Runs what was posted before, then ends the thread. Not from the loop's own
  // thread.
  void Stop();

 private:
  void Run();
  // False when the loop has stopped and nothing is left.
  bool NextBatch(absl::Time wake, std::vector<Event>* batch);

  const Clock* const clock_;
  const AfterBatch after_batch_;
  std::thread thread_;
  Mutex mutex_;
  CondVar posted_;
  std::vector<Event> events_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_ENGINE_EVENT_LOOP_H_
