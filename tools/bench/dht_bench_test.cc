#include "tools/bench/dht_bench.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/status_matchers.h"
#include "tools/bench/opendht_rival.h"

namespace koinon::tools {
namespace {

using ::testing::HasSubstr;

TEST(DhtBenchTest, Summarize_OfOneToHundred_HasItsQuantiles) {
  std::vector<double> ms;
  for (int i = 100; i >= 1; --i) ms.push_back(i);
  const DhtLatencies summary = Summarize(ms, 3);
  EXPECT_EQ(summary.count, 100u);
  EXPECT_EQ(summary.failed, 3u);
  EXPECT_DOUBLE_EQ(summary.mean_ms, 50.5);
  EXPECT_EQ(summary.p50_ms, 51);  // of two in the middle the larger
  EXPECT_EQ(summary.p95_ms, 95);
  EXPECT_EQ(summary.p99_ms, 99);
  EXPECT_EQ(Summarize({}, 0).count, 0u);
  EXPECT_EQ(Summarize({7}, 0).p99_ms, 7);
}

TEST(DhtBenchTest, SmallFleets_OfBothKinds_AreMeasuredBeforeAndAfterDeaths) {
  DhtBenchOptions options;
  options.nodes = 6;
  options.operations = 20;
  options.python = "";
  ASSERT_OK_AND_ASSIGN(const DhtBenchResult result, MeasureDht(options));
  ASSERT_EQ(result.figures.size(), 2u);
  for (const DhtFigure& figure : result.figures) {
    EXPECT_EQ(figure.killed, 3u);
    for (const DhtLatencies& l : {figure.put, figure.get, figure.get_after}) {
      EXPECT_EQ(l.count, 20u);
      EXPECT_EQ(l.failed, 0u);
      EXPECT_GT(l.p50_ms, 0);
      EXPECT_LE(l.p50_ms, l.p99_ms);
    }
  }
  EXPECT_THAT(DhtTable(result), HasSubstr("3 of 6 dead"));
  EXPECT_THAT(DhtJson(result), HasSubstr("\"what\":\"mutual TLS\""));
}

TEST(DhtBenchTest, Failures_SayWhatTheFirstSaid) {
  DhtBenchResult result;
  DhtFigure& figure = result.figures.emplace_back();
  figure.get.count = 2;
  figure.get.failed = 1;
  figure.get.first_failure = "NOT_FOUND: no node has \"it\"";
  EXPECT_THAT(DhtTable(result),
              HasSubstr("the first that failed: NOT_FOUND: no node has"));
  EXPECT_THAT(DhtJson(result),
              HasSubstr("\"first_failure\":\"NOT_FOUND: no node has \\\"it"));
}

TEST(DhtBenchTest, Rival_IsParsed) {
  ASSERT_OK_AND_ASSIGN(const DhtFigure figure,
                       ParseOpenDhtOutput("ready 2.4.12\nput 1.5 2.5\n"
                                          "get 0.5\nget_after 1000.0! 1\n"));
  EXPECT_EQ(figure.what, "OpenDHT 2.4.12");
  EXPECT_DOUBLE_EQ(figure.put.mean_ms, 2);
  EXPECT_EQ(figure.get.count, 1u);
  EXPECT_EQ(figure.get_after.failed, 1u);
}

TEST(DhtBenchTest, Rival_AbsentOrBroken_SaysSo) {
  EXPECT_THAT(ParseOpenDhtOutput("absent No module named 'opendht'\n"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("opendht")));
  for (const char* output : {"", "ready 1\n", "ready 1\nput x\nget 1\n",
                             "ready 1\nput 1\nget -1\n", "nonsense\n"}) {
    EXPECT_THAT(ParseOpenDhtOutput(output),
                StatusIs(absl::StatusCode::kUnavailable))
        << output;
  }
  DhtBenchOptions options;
  options.python = "/nonexistent/python";
  EXPECT_THAT(MeasureOpenDht(options), StatusIs(absl::StatusCode::kNotFound));
}

}  // namespace
}  // namespace koinon::tools
