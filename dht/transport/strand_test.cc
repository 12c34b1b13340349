#include "dht/transport/strand.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

namespace koinon::dht {
namespace {

// Opens once.
class Gate {
 public:
  void Open() {
    MutexLock lock(&mutex_);
    open_ = true;
    opened_.SignalAll();
  }
  void Wait() {
    MutexLock lock(&mutex_);
    while (!open_) opened_.Wait(&mutex_);
  }

 private:
  Mutex mutex_;
  CondVar opened_;
  bool open_ ABSL_GUARDED_BY(mutex_) = false;
};

class StrandTest : public ::testing::Test {
 protected:
  RealClock clock_;
  Strand strand_{&clock_};
};

TEST_F(StrandTest, Run_WhenNobodyIsOnIt_RunsBeforeItReturns) {
  std::thread::id ran_on;
  strand_.Run([&] { ran_on = std::this_thread::get_id(); });
  EXPECT_EQ(ran_on, std::this_thread::get_id());
}

TEST_F(StrandTest, Run_FromTheStrand_WaitsForItsTurn) {
  std::vector<int> order;
  strand_.Run([&] {
    strand_.Run([&] { order.push_back(2); });
    strand_.After(absl::ZeroDuration(), [&] { order.push_back(3); });
    order.push_back(1);
  });
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
}

TEST_F(StrandTest, Run_FromManyThreads_IsOneAtATimeAndLosesNothing) {
  constexpr int kThreads = 4, kEach = 2'000;
  int count = 0;  // by the strand alone
  std::atomic<int> inside{0};
  std::atomic<bool> overlapped{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kEach; ++i) {
        strand_.Run([&] {
          if (inside.fetch_add(1) != 0) overlapped = true;
          ++count;
          inside.fetch_sub(1);
        });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  strand_.RunAndWait([&] { EXPECT_EQ(count, kThreads * kEach); });
  EXPECT_FALSE(overlapped);
}

TEST_F(StrandTest, After_RunsInTheOrderOfTheTimes) {
  std::vector<int> order;
  Gate done;
  strand_.Run([&] {
    strand_.After(absl::Milliseconds(600), [&] {
      order.push_back(3);
      done.Open();
    });
    strand_.After(absl::Milliseconds(400), [&] { order.push_back(2); });
    strand_.After(absl::Milliseconds(200), [&] { order.push_back(1); });
  });
  done.Wait();
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
}

TEST_F(StrandTest, After_IsNeverEarly) {
  const absl::Time started = clock_.Now();
  Gate done;
  strand_.After(absl::Milliseconds(20), [&] { done.Open(); });
  done.Wait();
  EXPECT_GE(clock_.Now() - started, absl::Milliseconds(20));
}

TEST_F(StrandTest, Stop_WaitsForWhatRuns_AndDropsTheRest) {
  Gate running, go_on;
  std::atomic<bool> ended{false}, ran_more{false};
  const auto held = std::make_shared<int>(0);  // and by what is dropped
  std::thread busy([&] {
    strand_.Run([&] {
      running.Open();
      go_on.Wait();
      ended = true;
    });
  });
  running.Wait();
  strand_.Run([&ran_more, held] { ran_more = true; });
  strand_.After(absl::Hours(1), [&ran_more, held] { ran_more = true; });
  std::thread stopper([&] {
    strand_.Stop();
    EXPECT_TRUE(ended);
  });
  go_on.Open();
  stopper.join();
  busy.join();
  // What waited may have run before the stop came; the timer has not.
  EXPECT_EQ(held.use_count(), 1);
  ran_more = false;
  strand_.Run([&ran_more, held] { ran_more = true; });
  strand_.RunAndWait([&] { ran_more = true; });
  EXPECT_FALSE(ran_more);
  EXPECT_EQ(held.use_count(), 1);
}

}  // namespace
}  // namespace koinon::dht
