#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "aggregation/core/aggregator.h"
#include "aggregation/core/staleness.h"
#include "aggregation/core/testing_updates.h"
#include "base/status_matchers.h"
#include "google/protobuf/text_format.h"

namespace koinon::aggregation {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// The mean of {0} (one example) and {9} (eight) by the given spec.
float MeanBy(const v1::AggregationSpec& spec) {
  auto rule = MakeAggregator(spec);
  EXPECT_OK(rule);
  const UpdateSet set = TestSet({{0}, {9}}, {1, 8});
  ThreadPool pool(1);
  std::vector<float> out(1);
  MemorySink sink(absl::MakeSpan(out));
  EXPECT_OK((*rule)->Aggregate(set, {.pool = &pool}, &sink));
  return out[0];
}

TEST(MakeAggregatorTest, NoRule_IsFedAvg) {
  EXPECT_EQ(MeanBy(v1::AggregationSpec()), 8);
}

TEST(MakeAggregatorTest, FedAvgOptions_AreObeyed) {
  v1::AggregationSpec spec;
  spec.mutable_fedavg();
  EXPECT_EQ(MeanBy(spec), 8);
  spec.set_max_weight(2);
  EXPECT_EQ(MeanBy(spec), 6);
  spec.clear_max_weight();
  spec.mutable_fedavg()->set_uniform(true);
  EXPECT_EQ(MeanBy(spec), 4.5f);
}

TEST(MakeAggregatorTest, NegativeCap_IsRefused) {
  v1::AggregationSpec spec;
  spec.set_max_weight(-5);
  EXPECT_THAT(MakeAggregator(spec),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("aggregation.max_weight is -5")));
}

TEST(MakeAggregatorTest, CapOnIgnoredWeights_IsRefused) {
  v1::AggregationSpec spec;
  spec.set_max_weight(5);
  spec.mutable_fedavg()->set_uniform(true);
  EXPECT_THAT(MakeAggregator(spec),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("max_weight"), HasSubstr("uniform"))));
}

TEST(MakeAggregatorTest, FixedPoint_HasARange) {
  v1::AggregationSpec spec;
  spec.mutable_fedavg()->set_arithmetic(
      v1::AggregationSpec::FedAvg::FIXED_POINT);
  EXPECT_EQ(MeanBy(spec), 8);
  spec.mutable_fedavg()->mutable_fixed_point()->set_range(8.5);
  ASSERT_OK_AND_ASSIGN(const auto rule, MakeAggregator(spec));
  ThreadPool pool(1);
  std::vector<float> out(1);
  MemorySink sink(absl::MakeSpan(out));
  EXPECT_THAT(
      rule->Aggregate(TestSet({{0}, {9}}, {1, 8}), {.pool = &pool}, &sink),
      StatusIs(absl::StatusCode::kInvalidArgument,
               HasSubstr("is 9, expected at most 8.5")));
}

TEST(MakeAggregatorTest, FixedPointOptionsWithoutIt_AreRefused) {
  using FedAvg = v1::AggregationSpec::FedAvg;
  v1::AggregationSpec spec;
  spec.mutable_fedavg()->mutable_fixed_point();
  for (FedAvg::Arithmetic arithmetic :
       {FedAvg::ARITHMETIC_UNSPECIFIED, FedAvg::DOUBLE}) {
    spec.mutable_fedavg()->set_arithmetic(arithmetic);
    EXPECT_THAT(MakeAggregator(spec),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("arithmetic FIXED_POINT")));
  }
  spec.mutable_fedavg()->clear_fixed_point();
  spec.mutable_fedavg()->set_arithmetic(static_cast<FedAvg::Arithmetic>(9));
  EXPECT_THAT(MakeAggregator(spec),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("number 9, expected DOUBLE or FIXED_POINT")));
}

v1::AggregationSpec SpecOf(const std::string& text) {
  v1::AggregationSpec spec;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &spec))
      << text;
  return spec;
}

struct Refused {
  const char* spec;
  const char* field;     // the message begins with it
  const char* expected;  // and says this
};

class RefusedOptionTest : public ::testing::TestWithParam<Refused> {};

TEST_P(RefusedOptionTest, FieldAndAlternatives_AreNamed) {
  EXPECT_THAT(MakeAggregator(SpecOf(GetParam().spec)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(StartsWith(GetParam().field),
                             HasSubstr(GetParam().expected))))
      << GetParam().spec;
}

INSTANTIATE_TEST_SUITE_P(
    Rules, RefusedOptionTest,
    ::testing::ValuesIn(std::vector<Refused>{
        {"krum { f: -1 }", "aggregation.krum.f is -1", "expected 0 to"},
        {"krum { f: 1000001 }", "aggregation.krum.f is 1000001", "expected 0"},
        {"krum { f_fraction: -0.1 }", "aggregation.krum.f_fraction is -0.1",
         "[0, 0.5)"},
        {"krum { f_fraction: 0.5 }", "aggregation.krum.f_fraction is 0.5",
         "[0, 0.5)"},
        {"krum { f_fraction: nan }", "aggregation.krum.f_fraction is nan",
         "[0, 0.5)"},
        {"krum { f: 1 f_fraction: 0.1 }", "aggregation.krum.f is 1",
         "set one of them"},
        {"multi_krum { f: 1 f_fraction: 0.1 }", "aggregation.multi_krum.f is 1",
         "set one of them"},
        {"multi_krum { m: -2 }", "aggregation.multi_krum.m is -2",
         "or 0 for the convention's default"},
        {"bulyan { f_fraction: 0.25 }", "aggregation.bulyan.f_fraction is 0.25",
         "[0, 0.25)"},
        {"bulyan { f: -4 }", "aggregation.bulyan.f is -4", "expected 0"},
        {"median { f: -4 }", "aggregation.median.f is -4", "expected 0"},
        {"median { f: 1 f_fraction: 0.2 }", "aggregation.median.f is 1",
         "set one of them"},
        {"trimmed_mean {}", "aggregation.trimmed_mean.f",
         "not set, expected exactly one"},
        {"trimmed_mean { f: 1 beta: 0.1 }", "aggregation.trimmed_mean.f",
         "both set, expected exactly one"},
        {"trimmed_mean { f: -1 }", "aggregation.trimmed_mean.f is -1",
         "expected 0"},
        {"trimmed_mean { beta: 0.5 }", "aggregation.trimmed_mean.beta is 0.5",
         "[0, 0.5)"},
        {"trimmed_mean { beta: -0.1 }", "aggregation.trimmed_mean.beta is -0.1",
         "[0, 0.5)"},
        {"trimmed_mean { beta: nan }", "aggregation.trimmed_mean.beta is nan",
         "[0, 0.5)"},
        {"geometric_median { f: -1 }", "aggregation.geometric_median.f is -1",
         "expected 0"},
        {"geometric_median { tolerance: -1 }",
         "aggregation.geometric_median.tolerance is -1", "(0, 1)"},
        {"geometric_median { tolerance: nan }",
         "aggregation.geometric_median.tolerance is nan", "(0, 1)"},
        {"geometric_median { max_iterations: -1 }",
         "aggregation.geometric_median.max_iterations is -1", "expected 1 to"},
        {"geometric_median { tolerance: 1e-6 fixed {} }",
         "aggregation.geometric_median.tolerance is set", "drop one of them"},
        {"geometric_median { max_iterations: 5 fixed {} }",
         "aggregation.geometric_median.max_iterations is set",
         "drop one of them"},
        {"geometric_median { fixed { iterations: -3 } }",
         "aggregation.geometric_median.fixed.iterations is -3", "expected 1"},
        {"geometric_median { fixed { smoothing: -3 } }",
         "aggregation.geometric_median.fixed.smoothing is -3", "number > 0"},
        {"geometric_median { fixed { smoothing: inf } }",
         "aggregation.geometric_median.fixed.smoothing is inf", "finite"},
        {"centered_clipping {}", "aggregation.centered_clipping.tau is 0",
         "finite number > 0"},
        {"centered_clipping { tau: inf }",
         "aggregation.centered_clipping.tau is inf", "finite number > 0"},
        {"centered_clipping { tau: 1 iterations: -1 }",
         "aggregation.centered_clipping.iterations is -1", "expected 1 to"}}));

INSTANTIATE_TEST_SUITE_P(
    MaxWeight, RefusedOptionTest,
    ::testing::ValuesIn(std::vector<Refused>{
        {"max_weight: 5 krum {}", "aggregation.max_weight is 5",
         "krum ignores example counts"},
        {"max_weight: 5 krum { convention: FLOWER }",
         "aggregation.max_weight is 5", "drop aggregation.max_weight"},
        {"max_weight: 5 multi_krum {}", "aggregation.max_weight is 5",
         "aggregation.multi_krum.convention is FLOWER"},
        {"max_weight: 5 bulyan {}", "aggregation.max_weight is 5",
         "bulyan ignores"},
        {"max_weight: 5 median {}", "aggregation.max_weight is 5",
         "aggregation.median.weighted"},
        {"max_weight: 5 trimmed_mean { f: 1 }", "aggregation.max_weight is 5",
         "drop aggregation.max_weight"},
        {"max_weight: 5 geometric_median {}", "aggregation.max_weight is 5",
         "aggregation.geometric_median.weighted"},
        {"max_weight: 5 centered_clipping { tau: 1 }",
         "aggregation.max_weight is 5", "centered_clipping ignores"}}));

INSTANTIATE_TEST_SUITE_P(
    PreAggregations, RefusedOptionTest,
    ::testing::ValuesIn(std::vector<Refused>{
        {"pre_aggregation {}", "aggregation.pre_aggregation[0]",
         "expected norm_clipping, norm_bounding, arc, cosine_filter, "
         "nearest_neighbour_mixing or bucketing"},
        {"pre_aggregation { norm_clipping {} }",
         "aggregation.pre_aggregation[0].norm_clipping.norm is 0",
         "finite number > 0"},
        {"pre_aggregation { norm_clipping { norm: nan } }",
         "aggregation.pre_aggregation[0].norm_clipping.norm is nan",
         "finite number > 0"},
        {"pre_aggregation { norm_bounding { norm: inf } }",
         "aggregation.pre_aggregation[0].norm_bounding.norm is inf",
         "finite number > 0"},
        {"pre_aggregation { arc { f: 2 } } pre_aggregation { arc { f: -2 } }",
         "aggregation.pre_aggregation[1].arc.f is -2", "expected 0"},
        {"pre_aggregation { arc { f: 1 f_fraction: 0.1 } }",
         "aggregation.pre_aggregation[0].arc.f is 1", "set one of them"},
        {"pre_aggregation { cosine_filter { threshold: 1.5 } }",
         "aggregation.pre_aggregation[0].cosine_filter.threshold is 1.5",
         "[-1, 1]"},
        {"pre_aggregation { cosine_filter { threshold: nan } }",
         "aggregation.pre_aggregation[0].cosine_filter.threshold is nan",
         "[-1, 1]"},
        {"pre_aggregation { nearest_neighbour_mixing { f_fraction: 0.5 } }",
         "aggregation.pre_aggregation[0].nearest_neighbour_mixing.f_fraction",
         "[0, 0.5)"},
        {"server_optimizer {}", "aggregation.server_optimizer is empty",
         "expected fedavgm"},
        {"pre_aggregation { bucketing {} }",
         "aggregation.pre_aggregation[0].bucketing.size is 0", "expected 2"},
        {"pre_aggregation { bucketing { size: 1 } }",
         "aggregation.pre_aggregation[0].bucketing.size is 1", "expected 2"},
        {"fedavg { arithmetic: FIXED_POINT } "
         "pre_aggregation { bucketing { size: 2 } }",
         "aggregation.pre_aggregation", "FIXED_POINT"}}));

// Steps that are fine by themselves, and together wait for a round that no
// federation has.
INSTANTIATE_TEST_SUITE_P(
    Unsatisfiable, RefusedOptionTest,
    ::testing::ValuesIn(std::vector<Refused>{
        {"krum { f: 1000000 }", "aggregation: krum", "more than 65536 updates"},
        {"multi_krum { m: 70000 }", "aggregation: multi_krum", "lower f, m"},
        {"trimmed_mean { beta: 1e-9 }", "aggregation: trimmed_mean",
         "raise beta"},
        {"krum { f: 100 } pre_aggregation { bucketing { size: 1000 } }",
         "aggregation: krum", "bucketing's size"}}));

TEST(MakeAggregatorTest, UnknownEnumNumbers_AreRefusedWithTheKnown) {
  v1::AggregationSpec spec;
  spec.mutable_krum()->set_convention(
      static_cast<v1::AggregationSpec::KrumConvention>(9));
  EXPECT_THAT(MakeAggregator(spec),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("aggregation.krum.convention is number 9, "
                                 "expected BLANCHARD, FLOWER or BYZFL")));
  using Bulyan = v1::AggregationSpec::Bulyan;
  spec.mutable_bulyan()->set_selection(static_cast<Bulyan::Selection>(9));
  EXPECT_THAT(MakeAggregator(spec),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("aggregation.bulyan.selection is number 9, "
                                 "expected RECURSIVE or ONE_SHOT")));
  using GeometricMedian = v1::AggregationSpec::GeometricMedian;
  spec.mutable_geometric_median()->mutable_fixed()->set_start(
      static_cast<GeometricMedian::Start>(9));
  EXPECT_THAT(MakeAggregator(spec),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("fixed.start is number 9, expected MEAN or "
                                 "ZERO")));
  using Bounding = v1::PreAggregation::NormBounding;
  spec.clear_rule();
  spec.add_pre_aggregation()->mutable_norm_bounding()->set_outside(
      static_cast<Bounding::Outside>(9));
  EXPECT_THAT(MakeAggregator(spec),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("norm_bounding.outside is number 9, expected "
                                 "ZEROED or DROPPED")));
}

TEST(MakeAggregatorTest, WhatRulesNeed_IsKnownBeforehand) {
  const struct {
    const char* spec;
    size_t min_updates;
    bool uses_weights;
    bool keeps_aggregate;
  } cases[] = {
      {"", 1, true, false},
      {"fedavg { uniform: true }", 1, false, false},
      {"fedavg { arithmetic: FIXED_POINT }", 1, true, false},
      {"krum { f: 3 }", 9, false, false},
      {"krum { f_fraction: 0.2 }", 3, false, false},
      {"multi_krum { f: 3 convention: FLOWER }", 4, true, false},
      {"multi_krum { f: 3 m: 5 }", 10, false, false},
      {"multi_krum { f: 3 m: 5 convention: BYZFL }", 8, false, false},
      {"multi_krum { f: 3 m: 5 convention: FLOWER }", 5, true, false},
      {"median { f: 3 }", 7, false, false},
      {"median { weighted: true }", 1, true, false},
      {"trimmed_mean { beta: 0.3 }", 4, false, false},
      {"trimmed_mean { beta: 0.01 }", 100, false, false},
      {"bulyan { f: 2 }", 11, false, false},
      {"geometric_median { weighted: true f: 1 }", 3, true, false},
      {"centered_clipping { tau: 1 }", 1, false, true},
      {"krum { f: 1 } pre_aggregation { bucketing { size: 3 } }", 13, false,
       false},
      {"median {} pre_aggregation { nearest_neighbour_mixing { f: 4 } }", 9,
       false, false},
      {"median {} pre_aggregation { arc { f: 2 } }", 5, false, false},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.spec);
    ASSERT_OK_AND_ASSIGN(const auto rule, MakeAggregator(SpecOf(c.spec)));
    EXPECT_EQ(rule->MinUpdates(), c.min_updates);
    EXPECT_EQ(rule->UsesWeights(), c.uses_weights);
    EXPECT_EQ(UsesWeights(SpecOf(c.spec)), c.uses_weights);
    EXPECT_EQ(rule->KeepsAggregate(), c.keeps_aggregate);
  }
}

TEST(MakeAggregatorTest, CapOnWeightedRules_IsObeyed) {
  // Uncapped, the last update alone outweighs the others.
  const UpdateSet set = TestSet({{0}, {1}, {9}}, {10, 10, 1000});
  ThreadPool pool(1);
  for (const char* rule :
       {"median { weighted: true }", "geometric_median { weighted: true }"}) {
    SCOPED_TRACE(rule);
    for (const auto& [cap, expected] :
         std::vector<std::pair<const char*, float>>{{"", 9},
                                                    {" max_weight: 10", 1}}) {
      ASSERT_OK_AND_ASSIGN(const auto aggregator,
                           MakeAggregator(SpecOf(absl::StrCat(rule, cap))));
      std::vector<float> out(1);
      MemorySink sink(absl::MakeSpan(out));
      ASSERT_OK(aggregator->Aggregate(set, {.pool = &pool}, &sink));
      EXPECT_EQ(out[0], expected);
    }
  }
}

}  // namespace
}  // namespace koinon::aggregation
