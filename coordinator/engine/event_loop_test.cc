#include "coordinator/engine/event_loop.h"

#include <gtest/gtest.h>

#include <atomic>
#include <vector>

namespace koinon::coordinator {
namespace {

TEST(EventLoopTest, Post_ManyEvents_RunInOrderAndBeforeStopReturns) {
  const RealClock clock;
  std::vector<int> order;
  EventLoop loop(&clock, [] { return absl::InfiniteFuture(); });
  loop.Start();
  for (int i = 0; i < 1000; ++i) {
    loop.Post([&order, i] { order.push_back(i); });
  }
  loop.Stop();
  ASSERT_EQ(order.size(), 1000u);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(order[i], i);
}

TEST(EventLoopTest, AfterBatch_EventsPostedTogether_RunsOnceForAll) {
  const RealClock clock;
  int batches = 0;
  int seen = 0;
  EventLoop loop(&clock, [&] {
    ++batches;
    return absl::InfiniteFuture();
  });
  // Posted before the start: one batch, after the one that opens the loop.
  for (int i = 0; i < 10; ++i) loop.Post([&] { ++seen; });
  loop.Start();
  loop.Stop();
  EXPECT_EQ(seen, 10);
  EXPECT_EQ(batches, 2);
}

TEST(EventLoopTest, AfterBatch_WakeInThePast_RunsAgainWithoutAnyEvent) {
  const RealClock clock;
  Mutex mutex;
  CondVar ran;
  int batches = 0;
  EventLoop loop(&clock, [&] {
    MutexLock lock(&mutex);
    ++batches;
    ran.Signal();
    return batches < 3 ? absl::InfinitePast() : absl::InfiniteFuture();
  });
  loop.Start();
  MutexLock lock(&mutex);
  while (batches < 3) ran.Wait(&mutex);
  EXPECT_EQ(batches, 3);
}

TEST(EventLoopTest, Post_AfterStop_IsDropped) {
  const RealClock clock;
  bool ran = false;
  EventLoop loop(&clock, [] { return absl::InfiniteFuture(); });
  loop.Start();
  loop.Stop();
  loop.Post([&] { ran = true; });
  EXPECT_FALSE(ran);
}

}  // namespace
}  // namespace koinon::coordinator
