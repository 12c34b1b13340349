#include "tools/bench/swarm_bench.h"

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace koinon::bench {
namespace {

SwarmBenchFigure Figure() {
  return {.size_bytes = 100'000'000,
          .workers = 16,
          .tls = true,
          .seconds = 3,
          .loopback_seconds = 2,
          .ratio = 1.5,
          .copy_seconds = 2.5,
          .copy_ratio = 1.2,
          .cpu_seconds = 6,
          .loopback_cpu_seconds = 4,
          .copy_cpu_seconds = 5,
          .origin_copies = 1.125,
          .wasted_copies = 0.25,
          .memory_mib = 22};
}

TEST(SwarmBenchTest, Table_StandsUnderItsHeading) {
  EXPECT_EQ(
      SwarmBenchTable({Figure()}),
      " size MB  workers  transport |  seconds |  loopback  ratio |     copy  "
      "ratio |    CPU s  loopback     copy |  origin copies   wasted  memory "
      "MiB\n"
      "     100       16 mutual TLS |     3.00 |      2.00   1.50 |     2.50   "
      "1.20 |      6.0       4.0      5.0 |          1.125    0.250        "
      "22.0\n");
}

TEST(SwarmBenchTest, Json_SaysBothBoundsAndBothRatios) {
  EXPECT_EQ(
      SwarmBenchJson({Figure()}),
      R"([{"size_bytes":100000000,"workers":16,"tls":true,"seconds":3,)"
      R"("loopback_seconds":2,"ratio":1.5,"copy_seconds":2.5,)"
      R"("copy_ratio":1.2,"cpu_seconds":6,"loopback_cpu_seconds":4,)"
      R"("copy_cpu_seconds":5,"origin_copies":1.125,"wasted_copies":0.25,)"
      R"("memory_mib":22}])"
      "\n");
}

}  // namespace
}  // namespace koinon::bench
