#include "coordinator/jobs/buffer_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/status_matchers.h"
#include "google/protobuf/text_format.h"

namespace koinon::coordinator {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// A job as CompleteBuffer gets it.
v1::JobSpec MakeJob(const std::string& buffer, const std::string& rest = "") {
  v1::JobSpec spec;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(
      absl::StrCat("cohort { minimum: 1 over_selection: 1 } buffer { ", buffer,
                   " } aggregation { fedavg {} } "),
      &spec));
  EXPECT_TRUE(google::protobuf::TextFormat::MergeFromString(rest, &spec));
  return spec;
}

absl::Status Check(const std::string& buffer, const std::string& rest = "") {
  v1::JobSpec spec = MakeJob(buffer, rest);
  return CompleteBuffer(&spec);
}

auto IsRefused(const std::string& field, const std::string& why) {
  return StatusIs(absl::StatusCode::kInvalidArgument,
                  AllOf(HasSubstr(field), HasSubstr(why)));
}

TEST(CompleteBufferTest, NoBuffer_StaysNone) {
  v1::JobSpec spec;
  ASSERT_OK(CompleteBuffer(&spec));
  EXPECT_FALSE(spec.has_buffer());
}

TEST(CompleteBufferTest, OnlySize_GetsThePapersDefaults) {
  v1::JobSpec spec = MakeJob("size: 10");
  ASSERT_OK(CompleteBuffer(&spec));
  EXPECT_EQ(spec.buffer().polynomial().exponent(), 0.5);
  EXPECT_EQ(spec.buffer().max_staleness(), 20);
  EXPECT_EQ(spec.buffer().normalise(), v1::BufferSpec::BY_COUNT);
  const std::string once = spec.SerializeAsString();
  ASSERT_OK(CompleteBuffer(&spec));
  EXPECT_EQ(spec.SerializeAsString(), once);
}

TEST(CompleteBufferTest, WhatIsGiven_Stays) {
  v1::JobSpec spec = MakeJob(
      "size: 2 max_staleness: 4 threshold { staleness: 3 factor: 0.5 } "
      "normalise: BY_DISCOUNT");
  ASSERT_OK(CompleteBuffer(&spec));
  EXPECT_EQ(spec.buffer().max_staleness(), 4);
  EXPECT_EQ(spec.buffer().threshold().factor(), 0.5);
  EXPECT_EQ(spec.buffer().normalise(), v1::BufferSpec::BY_DISCOUNT);
}

TEST(CompleteBufferTest, OutOfRange_IsRefusedWithTheFieldsName) {
  EXPECT_THAT(Check(""), IsRefused("buffer.size", "is 0"));
  EXPECT_THAT(Check("size: -1"), IsRefused("buffer.size", "is -1"));
  EXPECT_THAT(Check("size: 1 max_staleness: -1"),
              IsRefused("buffer.max_staleness", "is -1"));
  for (const char* exponent : {"-0.1", "1.1", "nan", "inf"}) {
    EXPECT_THAT(
        Check(absl::StrCat("size: 1 polynomial { exponent: ", exponent, " }")),
        IsRefused("buffer.polynomial.exponent", "expected"))
        << exponent;
  }
  EXPECT_OK(Check("size: 1 polynomial { exponent: 1 }"));
  for (const char* factor : {"0", "-1", "1.01", "nan"}) {
    EXPECT_THAT(
        Check(absl::StrCat("size: 1 threshold { factor: ", factor, " }")),
        IsRefused("buffer.threshold.factor", "expected"))
        << factor;
  }
  EXPECT_THAT(Check("size: 1 threshold { factor: 1 staleness: -1 }"),
              IsRefused("buffer.threshold.staleness", "is -1"));
}

TEST(CompleteBufferTest, NothingStaleAllowed_StaysSo) {
  v1::JobSpec spec = MakeJob("size: 1 max_staleness: 0");
  ASSERT_OK(CompleteBuffer(&spec));
  EXPECT_TRUE(spec.buffer().has_max_staleness());
  EXPECT_EQ(spec.buffer().max_staleness(), 0);
}

TEST(CompleteBufferTest, ThresholdThatNoUpdateReaches_IsRefused) {
  EXPECT_THAT(Check("size: 1 max_staleness: 5 "
                    "threshold { staleness: 5 factor: 0.5 }"),
              IsRefused("buffer.threshold.staleness", "max_staleness 5"));
  EXPECT_OK(
      Check("size: 1 max_staleness: 5 "
            "threshold { staleness: 4 factor: 0.5 }"));
}

TEST(CompleteBufferTest, UnknownNormalise_ListsTheKnown) {
  v1::JobSpec spec = MakeJob("size: 1");
  spec.mutable_buffer()->set_normalise(
      static_cast<v1::BufferSpec::Normalise>(9));
  EXPECT_THAT(CompleteBuffer(&spec),
              IsRefused("buffer.normalise", "BY_COUNT or BY_DISCOUNT"));
}

TEST(CompleteBufferTest, BufferThatCouldNotBeFilled_IsRefused) {
  EXPECT_THAT(Check("size: 4", "cohort { target: 3 }"),
              IsRefused("buffer.size", "more than cohort.target 3"));
  EXPECT_OK(Check("size: 3", "cohort { target: 3 }"));
  EXPECT_THAT(Check("size: 4", "cohort { minimum: 5 }"),
              IsRefused("buffer.size", "less than cohort.minimum 5"));
  EXPECT_OK(Check("size: 5", "cohort { minimum: 5 }"));
}

TEST(CompleteBufferTest, ByDiscountWithoutWeights_IsRefused) {
  EXPECT_THAT(Check("size: 3 normalise: BY_DISCOUNT",
                    "aggregation { fedavg { uniform: true } }"),
              IsRefused("buffer.normalise", "BY_COUNT"));
  EXPECT_OK(Check("size: 3 normalise: BY_DISCOUNT",
                  "aggregation { median { weighted: true } }"));
}

TEST(CompleteBufferTest, WhatDoesNotGoTogether_IsRefused) {
  EXPECT_THAT(Check("size: 1", "cohort { target: 2 over_selection: 1.5 }"),
              IsRefused("cohort.over_selection", "later round"));
  EXPECT_THAT(Check("size: 1", "training { scaffold {} }"),
              IsRefused("training.scaffold", "buffer"));
}

}  // namespace
}  // namespace koinon::coordinator
