#include <gtest/gtest.h>

#include <vector>

#include "aggregation/core/aggregator.h"
#include "aggregation/core/testing_updates.h"
#include "base/status_matchers.h"

namespace koinon::aggregation {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

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

}  // namespace
}  // namespace koinon::aggregation
