#include "tools/bench/dht_simulation.h"

#include <set>
#include <string>
#include <vector>

#include "base/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace koinon::tools {
namespace {

using ::testing::Contains;
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

TEST(DhtSimulation, Scenarios_AFew_OnlyTheyAreRunOnceAllHaveJoined) {
  std::vector<std::string> told;
  const DhtSimulationReport report = RunDhtSimulation(
      {.nodes = 100, .seed = 1, .scenarios = {"half-dead", "walks"}},
      [&](const DhtSimulationRow& row) { told.push_back(row.condition); });
  ASSERT_EQ(report.rows.size(), 3u);
  EXPECT_THAT(report.rows[0].condition, StartsWith("nodes join"));
  EXPECT_THAT(report.rows[1].condition, StartsWith("walks"));
  EXPECT_THAT(report.rows[2].condition, StartsWith("half of the nodes die"));
  for (const DhtSimulationRow& row : report.rows) {
    EXPECT_TRUE(row.met) << DhtSimulationLine(row);
  }
  EXPECT_EQ(told.size(), 3u);
}

TEST(DhtSimulation, Scenarios_AllOfThem_HaveNamesOfTheirOwn) {
  const std::vector<std::string> names = DhtScenarios();
  EXPECT_THAT(names, Contains("churn"));
  EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(),
            names.size());
}

TEST(DhtSimulation, Row_SurvivesItsWayBetweenProcesses) {
  const DhtSimulationRow row{.condition = "10 % replaced",
                             .nodes = 10'000,
                             .figure = "lost 0, \"all\"",
                             .target = "",
                             .met = true,
                             .cpu_seconds = 12.5};
  ASSERT_OK_AND_ASSIGN(const DhtSimulationRow decoded,
                       DecodeDhtSimulationRow(EncodeDhtSimulationRow(row)));
  EXPECT_EQ(DhtSimulationLine(decoded), DhtSimulationLine(row));
  for (const std::string& bad :
       {std::string(), std::string("a\0b", 3), std::string(5, '\0'),
        std::string("c\0x\0f\0t\0"
                    "1\0"
                    "2",
                    11)}) {
    EXPECT_THAT(DecodeDhtSimulationRow(bad),
                StatusIs(absl::StatusCode::kDataLoss));
  }
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
