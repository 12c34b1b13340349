#include "kernels/train_bench.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/status_matchers.h"
#include "kernels/bfloat16.h"
#include "kernels/peak_flops.h"

namespace koinon::kernels {
namespace {

using ::testing::HasSubstr;

TEST(TrainingStep_Operations, OfTheMlp_AreThoseOfItsThreeProducts) {
  ASSERT_OK_AND_ASSIGN(TrainingStep step,
                       TrainingStep::Create("mlp", {.batch_size = 4}));
  // By hand: two passes over the first layer's weights, three over the others.
  EXPECT_EQ(step.operations(),
            4 * 2.0 * (2 * 784 * 512 + 3 * 512 * 256 + 3 * 256 * 10));
  EXPECT_OK(step.Run());
}

TEST(TrainingStep_Operations, OfTheCnn_CountEveryWindow) {
  ASSERT_OK_AND_ASSIGN(TrainingStep step,
                       TrainingStep::Create("cnn", {.batch_size = 1}));
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

TEST(FindTrainBenchModel, Gpt2_HasItsParameters) {
  ASSERT_OK_AND_ASSIGN(TrainBenchModel model, FindTrainBenchModel("gpt2-124m"));
  // The published model has 1024 positions.
  const double parameters = model.graph.layout().total_elements();
  EXPECT_EQ(parameters + (1024 - 64) * 768, 124'439'808);
}

TEST(MeasureTraining, Floor_IsMeasuredBesideTheStep) {
  TrainBenchOptions options;
  options.models = {"mlp", "cnn"};
  options.threads = {1};
  options.batch_size = 3;
  options.floor = true;
  options.repetitions = 3;
  options.block = absl::Milliseconds(1);
  ASSERT_OK_AND_ASSIGN(auto figures, MeasureTraining(options));
  ASSERT_EQ(figures.size(), 2u);
  for (const TrainFigure& figure : figures) {
    EXPECT_EQ(figure.precision, "fp32");
    EXPECT_GT(figure.floor_ms, 0);
    EXPECT_GT(figure.times_floor, 0);
  }
}

TEST(MeasureTraining, Bfloat16_RunsOrIsRefused) {
  TrainBenchOptions options;
  options.models = {"mlp"};
  options.threads = {1};
  options.precisions = {"bf16"};
  options.batch_size = 2;
  options.floor = true;
  options.repetitions = 1;
  options.block = absl::Milliseconds(1);
  if (!HasBfloat16()) {
    EXPECT_THAT(MeasureTraining(options),
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         HasSubstr("avx512_bf16")));
    return;
  }
  ASSERT_OK_AND_ASSIGN(auto figures, MeasureTraining(options));
  ASSERT_EQ(figures.size(), 1u);
  EXPECT_EQ(figures[0].precision, "bf16");
  EXPECT_GT(figures[0].fraction_of_peak, 0);
}

TEST(MeasureTraining, BadOptions_AreNamed) {
  TrainBenchOptions options;
  options.models = {"resnet"};
  EXPECT_THAT(MeasureTraining(options),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("expected cnn, mlp, resnet20,")));
  options = {};
  options.repetitions = 0;
  EXPECT_THAT(
      MeasureTraining(options),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("repetitions")));
  options = {};
  options.precisions = {"fp64"};
  EXPECT_THAT(MeasureTraining(options),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("expected fp32 or bf16, found fp64")));
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
