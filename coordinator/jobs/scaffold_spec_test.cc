#include "coordinator/jobs/scaffold_spec.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "base/status_matchers.h"

namespace koinon::coordinator {
namespace {

using ::testing::HasSubstr;

v1::JobSpec Parse(const std::string& text) {
  v1::JobSpec spec;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &spec));
  return spec;
}

// The refusal of a job with `scaffold` and `rest`.
std::string Refusal(const std::string& rest,
                    const std::string& scaffold = "training { scaffold {} }") {
  v1::JobSpec spec = Parse(absl::StrCat(scaffold, " ", rest));
  const absl::Status status = CompleteScaffold(&spec);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument));
  return std::string(status.message());
}

TEST(CompleteScaffold, NoRule_MeansThePlainMean) {
  v1::JobSpec spec = Parse("training { scaffold {} }");
  ASSERT_OK(CompleteScaffold(&spec));
  EXPECT_TRUE(spec.aggregation().fedavg().uniform());
  EXPECT_EQ(spec.aggregation().fedavg().arithmetic(),
            v1::AggregationSpec::FedAvg::DOUBLE);
  // Again, as when the job is read back: nothing more changes.
  const std::string before = spec.SerializeAsString();
  ASSERT_OK(CompleteScaffold(&spec));
  EXPECT_EQ(spec.SerializeAsString(), before);
}

TEST(CompleteScaffold, WithoutScaffold_NothingIsTouched) {
  v1::JobSpec spec = Parse("cohort { target: 2 } buffer { size: 3 }");
  const std::string before = spec.SerializeAsString();
  ASSERT_OK(CompleteScaffold(&spec));
  EXPECT_EQ(spec.SerializeAsString(), before);
}

TEST(CompleteScaffold, PartOfAPopulation_IsFine) {
  v1::JobSpec spec = Parse(
      "training { scaffold { population: 10 } } cohort { target: 3 minimum: 2 "
      "} aggregation { fedavg { uniform: true } }");
  EXPECT_OK(CompleteScaffold(&spec));
}

TEST(CompleteScaffold, OtherWaysToAggregate_AreRefusedByName) {
  EXPECT_THAT(Refusal("aggregation { median {} }"),
              HasSubstr("aggregation.median is set; use aggregation.fedavg"));
  EXPECT_THAT(Refusal("aggregation { fedavg {} }"),
              HasSubstr("aggregation.fedavg.uniform is not set"));
  EXPECT_THAT(Refusal("aggregation { max_weight: 5 }"),
              HasSubstr("aggregation.max_weight is 5"));
  EXPECT_THAT(Refusal("aggregation { fedavg { uniform: true "
                      "arithmetic: FIXED_POINT } }"),
              HasSubstr("aggregation.fedavg.arithmetic is FIXED_POINT"));
  EXPECT_THAT(
      Refusal("aggregation { pre_aggregation { bucketing { size: 2 } } }"),
      HasSubstr("aggregation.pre_aggregation has 1"));
  EXPECT_THAT(Refusal("aggregation { server_optimizer { fedadam {} } }"),
              HasSubstr("aggregation.server_optimizer is set"));
  EXPECT_THAT(Refusal("buffer { size: 3 }"), HasSubstr("buffer is set"));
}

TEST(CompleteScaffold, OtherWaysToTrain_AreRefused) {
  EXPECT_THAT(Refusal("", "training { scaffold {} clip_norm: 1 }"),
              HasSubstr("training.clip_norm is 1"));
}

TEST(CompleteScaffold, Population_MustCountEverybody) {
  EXPECT_THAT(Refusal("cohort { target: 3 }"),
              HasSubstr("training.scaffold.population: is not set, which means "
                        "that each round's cohort is everybody, but "
                        "cohort.target is 3"));
  const std::string two = "training { scaffold { population: 2 } }";
  EXPECT_THAT(Refusal("cohort { target: 3 }", two),
              HasSubstr("is 2, fewer than cohort.target 3"));
  EXPECT_THAT(Refusal("cohort { minimum: 3 }", two),
              HasSubstr("is 2, fewer than cohort.minimum 3"));
  EXPECT_THAT(Refusal("", "training { scaffold { population: -1 } }"),
              HasSubstr("training.scaffold.population is -1"));
}

}  // namespace
}  // namespace koinon::coordinator
