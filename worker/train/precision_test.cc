#include "worker/train/precision.h"

#include <gtest/gtest.h>

#include "base/status_matchers.h"

namespace koinon::worker {
namespace {

using testing::HasSubstr;

v1::TrainingSpec Spec(v1::TrainingSpec::Precision precision) {
  v1::TrainingSpec spec;
  spec.set_precision(precision);
  return spec;
}

TEST(UsesBfloat16, Float32_NeverDoes) {
  for (bool has : {false, true}) {
    EXPECT_THAT(UsesBfloat16({}, has), IsOkAndHolds(false));
    EXPECT_THAT(UsesBfloat16(Spec(v1::TrainingSpec::FLOAT32), has),
                IsOkAndHolds(false));
  }
}

TEST(UsesBfloat16, Bfloat16_NeedsTheProcessor) {
  EXPECT_THAT(UsesBfloat16(Spec(v1::TrainingSpec::BFLOAT16), true),
              IsOkAndHolds(true));
  EXPECT_THAT(UsesBfloat16(Spec(v1::TrainingSpec::BFLOAT16), false),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("avx512_bf16 or amx_bf16")));
}

TEST(UsesBfloat16, Either_GoesByTheProcessor) {
  const auto spec = Spec(v1::TrainingSpec::BFLOAT16_OR_FLOAT32);
  EXPECT_THAT(UsesBfloat16(spec, true), IsOkAndHolds(true));
  EXPECT_THAT(UsesBfloat16(spec, false), IsOkAndHolds(false));
}

TEST(UsesBfloat16, UnknownPrecision_IsRefused) {
  EXPECT_THAT(
      UsesBfloat16(Spec(static_cast<v1::TrainingSpec::Precision>(9)), true),
      StatusIs(absl::StatusCode::kInvalidArgument,
               HasSubstr("training.precision")));
}

}  // namespace
}  // namespace koinon::worker
