#include "worker/train/training_plan.h"

#include <gtest/gtest.h>

#include <limits>

#include "base/status_matchers.h"

namespace koinon::worker {
namespace {

using testing::HasSubstr;

v1::TrainingSpec Spec(double epochs, int64_t steps, int64_t batch_size) {
  v1::TrainingSpec spec;
  spec.set_epochs(epochs);
  spec.set_steps(steps);
  spec.set_batch_size(batch_size);
  return spec;
}

int64_t Steps(const v1::TrainingSpec& spec, size_t examples) {
  const auto plan = PlanTraining(spec, examples);
  EXPECT_OK(plan);
  return plan.ok() ? plan->steps : -1;
}

TEST(PlanTraining, Defaults_AreOneEpochInBatchesOf32) {
  ASSERT_OK_AND_ASSIGN(const TrainingPlan plan,
                       PlanTraining(Spec(0, 0, 0), 100));
  EXPECT_EQ(plan.batch_size, 32u);
  EXPECT_EQ(plan.steps_per_epoch, 4);
  EXPECT_EQ(plan.steps, 4);
}

TEST(PlanTraining, EpochsAndSteps_GiveSteps) {
  EXPECT_EQ(Steps(Spec(3, 0, 10), 25), 9);
  EXPECT_EQ(Steps(Spec(0.5, 0, 10), 100), 5);
  EXPECT_EQ(Steps(Spec(0.01, 0, 10), 100), 1);
  EXPECT_EQ(Steps(Spec(0, 7, 10), 25), 7);
}

TEST(PlanTraining, FewExamples_MakeSmallerBatches) {
  ASSERT_OK_AND_ASSIGN(const TrainingPlan plan,
                       PlanTraining(Spec(1, 0, int64_t{1} << 60), 3));
  EXPECT_EQ(plan.batch_size, 3u);
  EXPECT_EQ(plan.steps, 1);
}

TEST(PlanTraining, FieldsOutOfRange_AreRefused) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  constexpr double kInfinite = std::numeric_limits<double>::infinity();
  for (const v1::TrainingSpec& spec :
       {Spec(-1, 0, 1), Spec(kNan, 0, 1), Spec(kInfinite, 0, 1), Spec(0, -1, 1),
        Spec(0, 0, -1)}) {
    EXPECT_THAT(PlanTraining(spec, 10),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("expected batch_size, steps and epochs")));
  }
  EXPECT_THAT(
      PlanTraining(Spec(1, 1, 1), 10),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("found both")));
  for (const v1::TrainingSpec& spec :
       {Spec(1e300, 0, 1), Spec(0, std::numeric_limits<int64_t>::max(), 1)}) {
    EXPECT_THAT(PlanTraining(spec, 10),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("steps, found")));
  }
}

}  // namespace
}  // namespace koinon::worker
