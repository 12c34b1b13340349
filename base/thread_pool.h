#ifndef KOINON_BASE_THREAD_POOL_H_
#define KOINON_BASE_THREAD_POOL_H_

#include <cstddef>
#include <functional>
#include <memory>

namespace koinon {

// A fixed set of threads for data-parallel loops. ParallelFor may be called
// from one thread at a time.
class ThreadPool {
 public:
  // `threads` counts the caller: 1 means that loops run inline. Requires >= 1.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return threads_; }

  // Calls body(i) once for each i in [0, count), concurrently; returns when all
  // are done. Which thread runs which i is not defined: results must not
  // depend on it.
  void ParallelFor(size_t count, const std::function<void(size_t)>& body);

 private:
  struct State;
  void RunWorker();

  const int threads_;
  std::unique_ptr<State> state_;
};

}  // namespace koinon

#endif  // KOINON_BASE_THREAD_POOL_H_
