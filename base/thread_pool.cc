#include "base/thread_pool.h"

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "base/check.h"
#include "base/mutex.h"

namespace koinon {

struct ThreadPool::State {
  // Takes indices until none is left.
  void RunLoop(size_t count, const std::function<void(size_t)>& body) {
    for (size_t i = next.fetch_add(1); i < count; i = next.fetch_add(1)) {
      body(i);
    }
  }

  std::vector<std::thread> workers;
  // The next index of the present loop.
  std::atomic<size_t> next{0};

  Mutex mutex;
  CondVar loop_starts;
  CondVar loop_ends;
  // Counts loops, so that a worker joins each of them once.
  uint64_t loop ABSL_GUARDED_BY(mutex) = 0;
  size_t count ABSL_GUARDED_BY(mutex) = 0;
  const std::function<void(size_t)>* body ABSL_GUARDED_BY(mutex) = nullptr;
  // Workers that have not finished the present loop.
  size_t busy ABSL_GUARDED_BY(mutex) = 0;
  bool stopping ABSL_GUARDED_BY(mutex) = false;
};

ThreadPool::ThreadPool(int threads)
    : threads_(threads), state_(std::make_unique<State>()) {
  KOINON_CHECK(threads >= 1);
  for (int i = 1; i < threads; ++i) {
    state_->workers.emplace_back([this] { RunWorker(); });
  }
}

ThreadPool::~ThreadPool() {
  {
    MutexLock lock(&state_->mutex);
    state_->stopping = true;
  }
  state_->loop_starts.SignalAll();
  for (std::thread& worker : state_->workers) worker.join();
}

void ThreadPool::RunWorker() {
  State& state = *state_;
  uint64_t last_loop = 0;
  while (true) {
    size_t count;
    const std::function<void(size_t)>* body;
    {
      MutexLock lock(&state.mutex);
      while (state.loop == last_loop && !state.stopping) {
        state.loop_starts.Wait(&state.mutex);
      }
      if (state.stopping) return;
      last_loop = state.loop;
      count = state.count;
      body = state.body;
    }
    state.RunLoop(count, *body);
    MutexLock lock(&state.mutex);
    if (--state.busy == 0) state.loop_ends.Signal();
  }
}

void ThreadPool::ParallelFor(size_t count,
                             const std::function<void(size_t)>& body) {
  State& state = *state_;
  // One index needs no second thread, and waking one costs more.
  if (state.workers.empty() || count <= 1) {
    for (size_t i = 0; i < count; ++i) body(i);
    return;
  }
  {
    MutexLock lock(&state.mutex);
    KOINON_CHECK(state.busy == 0);
    state.next = 0;
    state.count = count;
    state.body = &body;
    state.busy = state.workers.size();
    ++state.loop;
  }
  state.loop_starts.SignalAll();
  state.RunLoop(count, body);
  MutexLock lock(&state.mutex);
  while (state.busy > 0) state.loop_ends.Wait(&state.mutex);
}

}  // namespace koinon
