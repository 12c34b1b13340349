#include "base/mutex.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace koinon {
namespace {

TEST(MutexTest, Lock_ManyThreads_ExcludeEachOther) {
  Mutex mutex;
  int count = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) {
        MutexLock lock(&mutex);
        ++count;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(count, 4000);
}

TEST(CondVarTest, Wait_Signal_WakesUp) {
  Mutex mutex;
  CondVar changed;
  bool ready = false;
  std::thread other([&] {
    MutexLock lock(&mutex);
    ready = true;
    changed.SignalAll();
  });
  {
    MutexLock lock(&mutex);
    while (!ready) changed.Wait(&mutex);
  }
  other.join();
  EXPECT_TRUE(ready);
}

TEST(CondVarTest, WaitWithTimeout_NoSignal_TimesOut) {
  Mutex mutex;
  CondVar changed;
  MutexLock lock(&mutex);
  // Wake-ups may be spurious; a time-out comes in the end.
  while (!changed.WaitWithTimeout(&mutex, absl::Milliseconds(1))) {
  }
}

TEST(CondVarTest, WaitWithTimeout_InfiniteTimeout_WaitsForTheSignal) {
  Mutex mutex;
  CondVar changed;
  bool ready = false;
  bool timed_out = false;
  std::thread other([&] {
    MutexLock lock(&mutex);
    ready = true;
    changed.Signal();
  });
  {
    MutexLock lock(&mutex);
    while (!ready && !timed_out) {
      timed_out = changed.WaitWithTimeout(&mutex, absl::InfiniteDuration());
    }
  }
  other.join();
  EXPECT_FALSE(timed_out);
}

}  // namespace
}  // namespace koinon
