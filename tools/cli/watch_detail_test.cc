#include "tools/cli/watch_detail.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace koinon::cli {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

v1::UpdateDecision* AddUpdate(v1::RoundReport* report, const char* worker) {
  v1::UpdateDecision* update = report->mutable_aggregation()->add_updates();
  update->set_worker(worker);
  return update;
}

TEST(DetailLines, NoAggregation_IsEmpty) {
  EXPECT_THAT(DetailLines(v1::RoundReport()), IsEmpty());
}

TEST(DetailLines, Selection_ShowsOnlyTheColumnsThatTheRuleHas) {
  v1::RoundReport report;
  v1::AggregationReport& aggregation = *report.mutable_aggregation();
  aggregation.set_rule("multi_krum");
  aggregation.add_pre_aggregation("norm_clipping");
  aggregation.add_pre_aggregation("nearest_neighbour_mixing");
  aggregation.set_server_optimizer("fedadam");
  aggregation.set_f(1);
  aggregation.set_instruction_set("avx512");
  v1::UpdateDecision* update = AddUpdate(&report, "w1");
  update->set_coefficient(0.5);
  update->set_norm(1.25);
  update->set_score(3.5);
  update->set_selected(true);
  update = AddUpdate(&report, "w2");
  update->set_coefficient(0);
  update->set_norm(1e6);
  update->set_score(1.25e12);
  update->set_selected(false);
  EXPECT_THAT(
      DetailLines(report),
      ElementsAre("    multi_krum of norm_clipping, nearest_neighbour_mixing, "
                  "then fedadam; f 1 of 2 updates, avx512",
                  "      worker  coefficient   norm     score  selected",
                  "      w1              0.5   1.25       3.5  yes",
                  "      w2                0  1e+06  1.25e+12  no"));
}

TEST(DetailLines, OldRound_SaysThatDecisionsAreNotKept) {
  v1::RoundReport report;
  report.mutable_aggregation()->set_rule("krum");
  report.mutable_aggregation()->set_f(1);
  for (const char* worker : {"w1", "w2", "w3"}) report.add_included(worker);
  EXPECT_THAT(DetailLines(report),
              ElementsAre("    krum; f 1 of 3 updates",
                          "      what became of each is kept for the newest "
                          "rounds only"));
}

TEST(DetailLines, CoordinateRule_ShowsSharesAndWhatWasTrimmed) {
  v1::RoundReport report;
  v1::AggregationReport& aggregation = *report.mutable_aggregation();
  aggregation.set_rule("trimmed_mean");
  aggregation.set_trimmed_per_side(2);
  aggregation.set_sampled_coordinates(65536);
  AddUpdate(&report, "w1")->set_outside_share(0.125);
  AddUpdate(&report, "w2")->set_dropped("norm 9 over 1");
  EXPECT_THAT(
      DetailLines(report),
      ElementsAre("    trimmed_mean; 2 updates, 2 trimmed on each "
                  "side, outside in parts of 65536 coordinates",
                  "      worker  outside  dropped", "      w1       12.5 %  -",
                  "      w2            -  norm 9 over 1"));
}

TEST(DetailLines, IterativeRuleInABuffer_ShowsIterationsAndStaleness) {
  v1::RoundReport report;
  v1::AggregationReport& aggregation = *report.mutable_aggregation();
  aggregation.set_rule("geometric_median");
  aggregation.set_iterations(12);
  aggregation.set_converged(true);
  v1::UpdateDecision* update = AddUpdate(&report, "w1");
  update->set_clip_factor(0.5);
  update->set_staleness(3);
  update->set_discount(0.5);
  EXPECT_THAT(
      DetailLines(report),
      ElementsAre("    geometric_median; 1 update, 12 iterations, converged",
                  "      worker  clipped to  staleness  discount",
                  "      w1          50.0 %          3       0.5"));
  aggregation.set_converged(false);
  EXPECT_THAT(DetailLines(report)[0], HasSubstr("not converged"));
}

TEST(DetailLines, Distribution_SaysWhereTheBytesCameFrom) {
  v1::RoundReport report;
  report.mutable_distribution()->set_from_peers(3 << 20);
  report.mutable_distribution()->set_from_origin(1 << 20);
  EXPECT_THAT(DetailLines(report),
              ElementsAre("    base version: 3.0 MiB from peers, 1.0 MiB from "
                          "the coordinator (75.0 % from peers)"));
}

TEST(DetailLines, SitesOfSeveralRanks_SayWhatTheyExchanged) {
  v1::RoundReport report;
  report.set_seconds(10);
  v1::SiteCommunication& site = (*report.mutable_communication())["w2"];
  site.set_ranks(4);
  site.set_nodes(2);
  site.set_bytes(int64_t{3} << 29);
  site.set_seconds(0.4);
  site.set_waited_seconds(0.1);
  site.set_step_seconds(4);
  site.set_step_waited_seconds(0.08);
  v1::SiteCommunication& lone = (*report.mutable_communication())["w1\n"];
  lone.set_ranks(1);
  lone.set_nodes(1);
  EXPECT_THAT(
      DetailLines(report),
      ElementsAre("    ranks of w1\\n: 1 rank on 1 node, 0 B in 0.00 s; waited "
                  "for 0.00 s",
                  "    ranks of w2: 4 ranks on 2 nodes, 1.5 GiB in 0.40 s "
                  "(4.03 GB/s); waited for 0.10 s, 75.0 % hidden; steps of "
                  "4.00 s, 2.0 % of them waiting"));
  EXPECT_THAT(
      DetailLines(report, 1),
      ElementsAre(HasSubstr("w1"), "      and 1 more sites (--json has all)"));
}

TEST(DetailLines, ManyUpdates_AreCutAndCounted) {
  v1::RoundReport report;
  report.mutable_aggregation()->set_rule("krum");
  for (int i = 0; i < 1000; ++i) {
    AddUpdate(&report, absl::StrCat("w", i).c_str())->set_score(i);
    auto* excluded = report.add_excluded();
    excluded->set_worker(absl::StrCat("x", i));
    excluded->set_reason("late");
  }
  // Rule, header, 3 rows, how many more; 3 left out, how many more.
  const std::vector<std::string> lines = DetailLines(report, 3);
  EXPECT_THAT(lines,
              ElementsAre(HasSubstr("krum; 1000 updates"), HasSubstr("score"),
                          HasSubstr("w0"), HasSubstr("w1"), HasSubstr("w2"),
                          "      and 997 more updates (--json has all)",
                          "    x0 left out: late", "    x1 left out: late",
                          "    x2 left out: late",
                          "      and 997 more left out (--json has all)"));
  EXPECT_THAT(DetailLines(report), SizeIs(2 + 2 * kDetailRows + 2));
}

// A column that only a row beyond the cut has is shown: its absence would say
// that the rule did nothing of the kind.
TEST(DetailLines, ColumnOfALaterUpdate_IsShown) {
  v1::RoundReport report;
  AddUpdate(&report, "w1")->set_norm(1);
  AddUpdate(&report, "w2")->set_clip_factor(0.25);
  EXPECT_THAT(DetailLines(report, 1)[1], HasSubstr("clipped to"));
}

TEST(DetailLines, HostileText_CannotMoveTheCursor) {
  v1::RoundReport report;
  report.mutable_aggregation()->set_rule("kr\x1bum");
  AddUpdate(&report, "w\n1")->set_dropped("a\x1b[2J");
  auto* excluded = report.add_excluded();
  excluded->set_worker("w\r2");
  excluded->set_reason("\x1b[1A");
  for (const std::string& line : DetailLines(report)) {
    EXPECT_THAT(line, AllOf(Not(HasSubstr("\x1b")), Not(HasSubstr("\n")),
                            Not(HasSubstr("\r"))));
  }
}

}  // namespace
}  // namespace koinon::cli
