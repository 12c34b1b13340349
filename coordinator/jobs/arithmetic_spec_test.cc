#include "coordinator/jobs/arithmetic_spec.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <string>

#include "base/status_matchers.h"

namespace koinon::coordinator {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using FedAvg = v1::AggregationSpec::FedAvg;

v1::JobSpec Parse(const std::string& text) {
  v1::JobSpec spec;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &spec));
  return spec;
}

FedAvg::Arithmetic ArithmeticOf(const std::string& text) {
  v1::JobSpec spec = Parse(text);
  EXPECT_OK(CompleteArithmetic(&spec)) << text;
  const std::string before = spec.SerializeAsString();
  EXPECT_OK(CompleteArithmetic(&spec));
  EXPECT_EQ(spec.SerializeAsString(), before);
  return spec.aggregation().fedavg().arithmetic();
}

absl::Status Refusal(const std::string& text) {
  v1::JobSpec spec = Parse(text);
  return CompleteArithmetic(&spec);
}

TEST(CompleteArithmeticTest, LinearRuleAtScale_IsFixedPoint) {
  EXPECT_EQ(ArithmeticOf(""), FedAvg::DOUBLE);
  EXPECT_EQ(ArithmeticOf("cohort { target: 255 }"), FedAvg::DOUBLE);
  EXPECT_EQ(ArithmeticOf("cohort { target: 256 }"), FedAvg::FIXED_POINT);
  EXPECT_EQ(ArithmeticOf("cohort { target: 1000 } "
                         "aggregation { server_optimizer { fedadam {} } }"),
            FedAvg::FIXED_POINT);
  EXPECT_EQ(ArithmeticOf("cohort { target: 300 } aggregation { fedavg { "
                         "fixed_point { range: 2 } } }"),
            FedAvg::FIXED_POINT);
}

TEST(CompleteArithmeticTest, WhatMustSeeAllUpdates_IsDouble) {
  for (const char* rest :
       {"aggregation { pre_aggregation { bucketing { size: 2 } } }",
        "buffer { size: 3 }", "training { scaffold {} }",
        "aggregation { fedavg { arithmetic: DOUBLE } }"}) {
    EXPECT_EQ(ArithmeticOf(std::string("cohort { target: 256 } ") + rest),
              FedAvg::DOUBLE)
        << rest;
  }
}

TEST(CompleteArithmeticTest, OtherRules_AreNotTouched) {
  v1::JobSpec spec =
      Parse("cohort { target: 300 } aggregation { median { f: 2 } }");
  const std::string before = spec.SerializeAsString();
  ASSERT_OK(CompleteArithmetic(&spec));
  EXPECT_EQ(spec.SerializeAsString(), before);
}

TEST(CompleteArithmeticTest, FixedPointWithWhatItCannotDo_IsRefused) {
  EXPECT_THAT(Refusal("buffer { size: 3 } aggregation { fedavg { "
                      "arithmetic: FIXED_POINT } }"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("buffer"), HasSubstr("use DOUBLE"))));
  EXPECT_THAT(
      Refusal("training { scaffold {} } aggregation { fedavg { "
              "arithmetic: FIXED_POINT } }"),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("scaffold")));
  EXPECT_THAT(Refusal("cohort { target: 11 } aggregation { fedavg { "
                      "arithmetic: FIXED_POINT fixed_point { "
                      "total_weight: 10 } } }"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("total_weight: is 10, but the round wants 11 "
                                 "updates")));
  EXPECT_THAT(Refusal("aggregation { fedavg { arithmetic: FIXED_POINT "
                      "fixed_point { range: -1 } } }"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("fixed_point.range is -1")));
}

}  // namespace
}  // namespace koinon::coordinator
