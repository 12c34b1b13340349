#include "tools/bench/dht_simulation.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace koinon::tools {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(DhtSimulation, Line_SaysWhatWasMissed) {
  DhtSimulationRow row{.condition = "half die",
                       .nodes = 7,
                       .figure = "gets 99 %",
                       .target = "100 %",
                       .met = false,
                       .cpu_seconds = 2};
  EXPECT_THAT(DhtSimulationLine(row), StartsWith("half die "));
  EXPECT_THAT(DhtSimulationLine(row), HasSubstr("MISSED gets 99 % (100 %)"));
  row.met = true;
  EXPECT_THAT(DhtSimulationLine(row), HasSubstr(" ok "));
}

TEST(DhtSimulation, Json_QuotesWhatItSays) {
  DhtSimulationReport report;
  report.options.seed = 5;
  report.rows.push_back({.condition = "a \"b\"",
                         .nodes = 7,
                         .figure = "c",
                         .target = "",
                         .met = false,
                         .cpu_seconds = 2});
  EXPECT_EQ(DhtSimulationJson(report),
            "{\"seed\":5,\"peak_rss_mib\":0,\"rows\":[{\"condition\":\"a "
            "\\\"b\\\"\",\"nodes\":7,\"measured\":\"c\",\"wanted\":\"\","
            "\"met\":false,\"cpu_seconds\":2.0}]}\n");
}

}  // namespace
}  // namespace koinon::tools
