#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>

#include "base/status_matchers.h"
#include "tools/bench/disk_round.h"

namespace koinon::tools {
namespace {

// 100 updates of 10 million parameters, 4 GB, on disk: the rules read blocks of
// them. Beyond the page cache, which is the kernel's and given up on demand, a
// round must stay under 300 MB.
TEST(AggregateMemory, RobustRoundOf4GigabytesOnDisk_StaysUnder300Megabytes) {
  constexpr int64_t kMost = 300'000'000;
  DiskRoundOptions options;
  options.rules = {"median", "trimmed_mean", "krum", "bulyan",
                   "geometric_median_100"};
  ASSERT_OK_AND_ASSIGN(const auto figures, MeasureDiskRounds(options));
  std::printf("%s", DiskRoundTable(figures).c_str());
  for (const DiskRoundFigure& figure : figures) {
    EXPECT_LT(figure.peak_bytes, kMost) << figure.rule;
  }
}

}  // namespace
}  // namespace koinon::tools
