#include "kernels/onednn/openmp.h"

#include <gtest/gtest.h>

#include <vector>

extern "C" int omp_get_max_threads();

namespace koinon::kernels::onednn {
namespace {

TEST(ParallelFor, AnyThreadsAndCount_RunsEachOnce) {
  for (int threads : {1, 2, 3, 8}) {
    for (size_t count : {0, 1, 2, 7, 1000}) {
      std::vector<int> runs(count);
      ParallelFor(threads, count, [&](size_t begin, size_t end) {
        for (size_t i = begin; i < end; ++i) ++runs[i];
      });
      EXPECT_EQ(runs, std::vector<int>(count, 1)) << threads << " threads";
    }
  }
}

TEST(ThreadScope, AtItsEnd_PutsTheOldBoundBack) {
  const int before = omp_get_max_threads();
  {
    const ThreadScope outer(3);
    EXPECT_EQ(omp_get_max_threads(), 3);
    {
      const ThreadScope inner(1);
      EXPECT_EQ(omp_get_max_threads(), 1);
    }
    EXPECT_EQ(omp_get_max_threads(), 3);
  }
  EXPECT_EQ(omp_get_max_threads(), before);
}

}  // namespace
}  // namespace koinon::kernels::onednn
