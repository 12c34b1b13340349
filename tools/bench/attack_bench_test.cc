#include "tools/bench/attack_bench.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/random.h"
#include "base/status_matchers.h"

namespace koinon::tools {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// Four classes around four corners of a cube in 16 dimensions; a linear model
// separates nearly all of them.
worker::Dataset Blobs(size_t count, uint64_t seed) {
  constexpr size_t kWidth = 16;
  constexpr int kClasses = 4;
  worker::Dataset data;
  data.name = "blobs";
  data.shape = {kWidth};
  Random random(seed);
  for (size_t i = 0; i < count; ++i) {
    const auto label = static_cast<int32_t>(random.NextBelow(kClasses));
    data.labels.push_back(label);
    for (size_t j = 0; j < kWidth; ++j) {
      const double centre = j % kClasses == static_cast<size_t>(label) ? 1 : 0;
      data.features.push_back(
          static_cast<float>(centre + 0.5 * random.NextNormal()));
    }
  }
  return data;
}

AttackBenchOptions Quick() {
  AttackBenchOptions options;
  options.federation.workers = 10;
  options.federation.rounds = 5;
  options.federation.hidden = 0;
  options.federation.batch_size = 10;
  options.federation.learning_rate = 0.5;
  options.attackers = {3};
  options.rules = {"fedavg"};
  options.attacks = {"none"};
  return options;
}

absl::StatusOr<std::vector<AttackFigure>> Measure(
    const AttackBenchOptions& options) {
  return MeasureAttacks(Blobs(400, 1), Blobs(500, 2), options);
}

TEST(MeasureAttacks, NobodyAttacks_FedAvgLearns) {
  ASSERT_OK_AND_ASSIGN(const auto figures, Measure(Quick()));
  ASSERT_THAT(figures, SizeIs(1));
  EXPECT_GT(figures[0].accuracy, 0.9);
  EXPECT_EQ(figures[0].rounds, 5);
  EXPECT_THAT(figures[0].note, IsEmpty());
}

// A constant answer is right in a quarter of the cases. Scaling is for the
// robust rules only: a linear model is none the worse for a step in the right
// direction that is too long.
TEST(MeasureAttacks, SixOfTwentyAttack_FedAvgCollapsesAndRobustRulesDoNot) {
  AttackBenchOptions options = Quick();
  options.federation.workers = 20;
  options.attackers = {6};
  options.rules = {"fedavg", "nnm+median", "nnm+trimmed_mean", "nnm+multi_krum",
                   "nnm+geometric_median"};
  options.attacks = {"none", "sign_flip", "gaussian_noise", "scaling"};
  ASSERT_OK_AND_ASSIGN(const auto figures, Measure(options));
  ASSERT_THAT(figures, SizeIs(20));
  const double attack_free = figures[0].accuracy;
  EXPECT_GT(attack_free, 0.9);
  for (const AttackFigure& figure : figures) {
    SCOPED_TRACE(figure.rule + " under " + figure.attack);
    if (figure.rule == "fedavg" && figure.attack == "scaling") continue;
    if (figure.rule == "fedavg" && figure.attack != "none") {
      EXPECT_LT(figure.accuracy, 0.6);
    } else {
      EXPECT_GT(figure.accuracy, attack_free - 0.03);
    }
  }
}

TEST(MeasureAttacks, RuleThatNeedsMoreUpdates_IsAResultAndSaysSo) {
  AttackBenchOptions options = Quick();
  options.rules = {"bulyan", "centered_clipping"};
  ASSERT_OK_AND_ASSIGN(const auto figures, Measure(options));
  ASSERT_THAT(figures, SizeIs(2));
  EXPECT_FALSE(figures[0].applicable);
  EXPECT_THAT(figures[0].note,
              AllOf(HasSubstr("4f + 3 = 15"), HasSubstr("10")));
  EXPECT_TRUE(figures[1].applicable);
}

TEST(MeasureAttacks, AnyNumberOfThreads_GivesTheSameFigures) {
  AttackBenchOptions options = Quick();
  options.attacks = {"none", "sign_flip", "mimic", "label_flip"};
  options.federation.alpha = 1;
  ASSERT_OK_AND_ASSIGN(const auto one, Measure(options));
  options.threads = 3;
  ASSERT_OK_AND_ASSIGN(const auto three, Measure(options));
  EXPECT_EQ(AttackCsv(one), AttackCsv(three));
}

TEST(MeasureAttacks, UnknownNames_ListTheKnownOnes) {
  AttackBenchOptions options = Quick();
  options.rules = {"fedavg", "mean"};
  EXPECT_THAT(Measure(options),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("\"mean\""), HasSubstr("krum"))));
  options.rules = {"median+fedavg"};
  EXPECT_THAT(Measure(options),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("\"median\""), HasSubstr("nnm"))));
  options = Quick();
  options.attacks = {"flip"};
  EXPECT_THAT(Measure(options), StatusIs(absl::StatusCode::kInvalidArgument,
                                         AllOf(HasSubstr("\"flip\""),
                                               HasSubstr("none, sign_flip"),
                                               HasSubstr("label_flip"))));
}

TEST(MeasureAttacks, BadOptions_AreRefused) {
  AttackBenchOptions options = Quick();
  options.attackers = {10};
  EXPECT_THAT(Measure(options),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("10 attackers of 10 workers")));
  options = Quick();
  options.federation.rounds = 0;
  EXPECT_THAT(Measure(options), StatusIs(absl::StatusCode::kInvalidArgument,
                                         HasSubstr("0 rounds")));
  options = Quick();
  options.federation.workers = 401;
  EXPECT_THAT(Measure(options), StatusIs(absl::StatusCode::kInvalidArgument));
  options = Quick();
  options.threads = 0;
  EXPECT_THAT(Measure(options), StatusIs(absl::StatusCode::kInvalidArgument,
                                         HasSubstr("threads")));
}

TEST(AttackRule, EveryDefault_CarriesItsOptions) {
  for (const std::string& name : DefaultAttackRules()) {
    EXPECT_THAT(AttackRule(name, {.f = 2}), IsOk()) << name;
  }
  ASSERT_OK_AND_ASSIGN(
      const v1::AggregationSpec spec,
      AttackRule("norm_clipping+nnm+trimmed_mean", {.f = 2, .clip_norm = 3}));
  ASSERT_EQ(spec.pre_aggregation_size(), 2);
  EXPECT_EQ(spec.pre_aggregation(0).norm_clipping().norm(), 3);
  EXPECT_EQ(spec.pre_aggregation(1).nearest_neighbour_mixing().f(), 2);
  EXPECT_EQ(spec.trimmed_mean().f(), 2);
  ASSERT_OK_AND_ASSIGN(const v1::AggregationSpec clipping,
                       AttackRule("centered_clipping", {.tau = 4}));
  EXPECT_EQ(clipping.centered_clipping().tau(), 4);
}

std::vector<AttackFigure> Figures() {
  AttackFigure figure;
  figure.f = 6;
  figure.rule = "fedavg";
  figure.attack = "none";
  figure.accuracy = 0.9333;
  figure.rounds = 30;
  std::vector<AttackFigure> figures = {figure};
  figure.attack = "scaling";
  figure.accuracy = 0.1;
  figure.rounds = 2;
  figure.note = "round 3: the new version overflows";
  figures.push_back(figure);
  figure.rule = "bulyan";
  figure.applicable = false;
  figure.rounds = 0;
  figure.note = "needs \"27\", got 20";
  for (const char* attack : {"none", "scaling"}) {
    figure.attack = attack;
    figures.push_back(figure);
  }
  return figures;
}

TEST(AttackReport, Markdown_HasATableAndExplainsItsMarks) {
  EXPECT_EQ(AttackMarkdown(Figures()),
            "Attackers: 6\n\n"
            "| rule | none | scaling |\n"
            "|---|---:|---:|\n"
            "| fedavg | 93.3 | 10.0* |\n"
            "| bulyan | - | - |\n\n"
            "- \\* fedavg under scaling stopped at round 3: the new version "
            "overflows\n"
            "- bulyan: needs \"27\", got 20\n");
  EXPECT_EQ(AttackMarkdown({}), "");
}

TEST(AttackReport, CsvAndJson_AreQuotedAndComplete) {
  const std::string csv = AttackCsv(Figures());
  EXPECT_THAT(csv, HasSubstr("6,fedavg,none,0.9333,30,\"\"\n"));
  EXPECT_THAT(csv, HasSubstr("6,bulyan,none,,0,\"needs \"\"27\"\", got 20\""));
  const std::string json = AttackJson(Figures());
  EXPECT_THAT(json, HasSubstr("{\"attackers\":6,\"rule\":\"fedavg\",\"attack\":"
                              "\"none\",\"accuracy\":0.9333,\"rounds\":30,"
                              "\"note\":\"\"}"));
  EXPECT_THAT(json, HasSubstr("\"accuracy\":null"));
  EXPECT_THAT(json, HasSubstr("needs \\\"27\\\""));
  EXPECT_EQ(AttackJson({}), "[]\n");
}

}  // namespace
}  // namespace koinon::tools
