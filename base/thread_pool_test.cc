#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace koinon {
namespace {

class ThreadPoolTest : public testing::TestWithParam<int> {
 protected:
  ThreadPool pool_{GetParam()};
};

TEST_P(ThreadPoolTest, Threads_IsWhatWasAskedFor) {
  EXPECT_EQ(pool_.threads(), GetParam());
}

TEST_P(ThreadPoolTest, ParallelFor_ManyIndices_RunsEachOnce) {
  std::vector<int> runs(1000);
  pool_.ParallelFor(runs.size(), [&](size_t i) { ++runs[i]; });
  EXPECT_EQ(runs, std::vector<int>(1000, 1));
}

TEST_P(ThreadPoolTest, ParallelFor_NoneOrOne_RunsNoneOrOne) {
  int runs = 0;
  pool_.ParallelFor(0, [&](size_t) { ++runs; });
  EXPECT_EQ(runs, 0);
  pool_.ParallelFor(1, [&](size_t) { ++runs; });
  EXPECT_EQ(runs, 1);
}

TEST_P(ThreadPoolTest, ParallelFor_ManyLoops_EachIsCompleteOnReturn) {
  std::vector<size_t> values(7);
  for (size_t loop = 0; loop < 500; ++loop) {
    pool_.ParallelFor(values.size(), [&](size_t i) { values[i] = loop + i; });
    for (size_t i = 0; i < values.size(); ++i) ASSERT_EQ(values[i], loop + i);
  }
}

TEST_P(ThreadPoolTest, ParallelFor_AllThreadsWaitForEachOther_AllTakePart) {
  // Ends only if as many threads as promised run at once.
  std::atomic<int> arrived = 0;
  pool_.ParallelFor(static_cast<size_t>(GetParam()), [&](size_t) {
    ++arrived;
    while (arrived < GetParam()) std::this_thread::yield();
  });
  EXPECT_EQ(arrived, GetParam());
}

INSTANTIATE_TEST_SUITE_P(Sizes, ThreadPoolTest, testing::Values(1, 2, 4));

}  // namespace
}  // namespace koinon
