#include "kernels/train_bench.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/status_matchers.h"
#include "kernels/peak_flops.h"

namespace koinon::kernels {
namespace {

using ::testing::HasSubstr;

TEST(TrainingStep_Operations, OfTheMlp_AreThoseOfItsThreeProducts) {
  ASSERT_OK_AND_ASSIGN(TrainingStep step, TrainingStep::Create("mlp", 4, 1));
  // By hand: two passes over the first layer's weights, three over the others.
  EXPECT_EQ(step.operations(),
            4 * 2.0 * (2 * 784 * 512 + 3 * 512 * 256 + 3 * 256 * 10));
  EXPECT_OK(step.Run());
}

TEST(TrainingStep_Operations, OfTheCnn_CountEveryWindow) {
  ASSERT_OK_AND_ASSIGN(TrainingStep step, TrainingStep::Create("cnn", 1, 1));
  const double conv1 = 28 * 28 * 32 * 9, conv2 = 14 * 14 * 64 * 9.0 * 32;
  const double dense = 3136 * 128 + 128 * 10;
  EXPECT_EQ(step.operations(), 2 * (2 * conv1 + 3 * conv2 + 3 * dense));
}

TEST(MeasureTraining, EveryConfiguration_HasAFigure) {
  TrainBenchOptions options;
  options.batch_size = 2;
  options.repetitions = 2;
  options.block = absl::Milliseconds(1);
  ASSERT_OK_AND_ASSIGN(auto figures, MeasureTraining(options));
  ASSERT_EQ(figures.size(), 4u);
  EXPECT_EQ(figures[1].model, "cnn");
  EXPECT_EQ(figures[1].threads, 2);
  for (const TrainFigure& figure : figures) {
    EXPECT_GT(figure.samples_per_second, 0);
    EXPECT_GT(figure.fraction_of_peak, 0);
    EXPECT_NEAR(figure.samples_per_second * figure.step_ms, 2 * 1000, 1e-6);
  }
}

TEST(MeasureTraining, BadOptions_AreNamed) {
  TrainBenchOptions options;
  options.models = {"resnet"};
  EXPECT_THAT(MeasureTraining(options),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("expected cnn or mlp, found resnet")));
  options = {};
  options.repetitions = 0;
  EXPECT_THAT(
      MeasureTraining(options),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("repetitions")));
  options = {};
  options.block = absl::ZeroDuration();
  EXPECT_THAT(MeasureTraining(options),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("block")));
}

TEST(MeasurePeakFlops, OneThread_DoesMoreThanOneScalarUnit) {
  EXPECT_GT(MeasurePeakFlops(1, absl::Milliseconds(5)), 1e8);
}

}  // namespace
}  // namespace koinon::kernels
