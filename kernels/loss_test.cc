#include "kernels/loss.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace koinon::kernels {
namespace {

constexpr auto kCrossEntropy = v1::TrainingSpec::SOFTMAX_CROSS_ENTROPY;
constexpr auto kSquaredError = v1::TrainingSpec::MEAN_SQUARED_ERROR;

Batch Labelled(const std::vector<int32_t>& labels) {
  Batch batch;
  batch.size = labels.size();
  batch.labels = labels;
  return batch;
}

TEST(ComputeLoss_CrossEntropy, EqualLogits_CostTheLogOfTheClasses) {
  const std::vector<int32_t> labels = {3, 0};
  const std::vector<float> logits(2 * 4, 7.0f);
  std::vector<float> gradient(8);
  const BatchMetrics metrics = ComputeLoss(kCrossEntropy, Labelled(labels), 4,
                                           logits.data(), gradient.data());
  EXPECT_DOUBLE_EQ(metrics.loss, std::log(4.0));
  // Ties go to the first class.
  EXPECT_EQ(metrics.correct, 1);
  EXPECT_FLOAT_EQ(gradient[3], (0.25f - 1) / 2);
  EXPECT_FLOAT_EQ(gradient[1], 0.25f / 2);
}

TEST(ComputeLoss_CrossEntropy, HugeLogits_StayFinite) {
  const std::vector<int32_t> labels = {1};
  const std::vector<float> logits = {3e38f, -3e38f};
  std::vector<float> gradient(2);
  const BatchMetrics metrics = ComputeLoss(kCrossEntropy, Labelled(labels), 2,
                                           logits.data(), gradient.data());
  EXPECT_TRUE(std::isfinite(metrics.loss));
  EXPECT_EQ(metrics.correct, 0);
  EXPECT_FLOAT_EQ(gradient[0], 1);
  EXPECT_FLOAT_EQ(gradient[1], -1);
}

TEST(ComputeLoss_SquaredError, TwoOutputs_AreAveragedToo) {
  const std::vector<float> targets = {1, 2};
  Batch batch;
  batch.size = 1;
  batch.targets = targets;
  const std::vector<double> outputs = {4, 3};
  std::vector<double> gradient(2);
  const BatchMetrics metrics =
      ComputeLoss(kSquaredError, batch, 2, outputs.data(), gradient.data());
  EXPECT_DOUBLE_EQ(metrics.loss, (9.0 + 1.0) / 2);
  EXPECT_EQ(metrics.correct, 0);
  EXPECT_DOUBLE_EQ(gradient[0], 3);
  EXPECT_DOUBLE_EQ(gradient[1], 1);
}

TEST(ComputeLoss, Gradient_IsTheSlopeOfTheLoss) {
  const std::vector<int32_t> labels = {2, 0, 1};
  const std::vector<float> targets = {1, 0, 2, -1, 0.5, 3, 0, 1, -2};
  Batch batch = Labelled(labels);
  batch.targets = targets;
  std::vector<double> outputs = {0.3, -1, 2, 0.1, 0.2, 0.7, -2, 1.5, 0};
  for (const auto loss : {kCrossEntropy, kSquaredError}) {
    std::vector<double> gradient(9);
    ComputeLoss(loss, batch, 3, outputs.data(), gradient.data());
    // Central differences: error h^2 of the third derivative, eps / h of
    // rounding.
    constexpr double kStep = 1e-5;
    for (size_t i = 0; i < outputs.size(); ++i) {
      std::vector<double> up = outputs, down = outputs;
      up[i] += kStep;
      down[i] -= kStep;
      const double slope =
          (ComputeLoss<double>(loss, batch, 3, up.data(), nullptr).loss -
           ComputeLoss<double>(loss, batch, 3, down.data(), nullptr).loss) /
          (2 * kStep);
      EXPECT_NEAR(gradient[i], slope, 1e-9) << "loss " << loss << " at " << i;
    }
  }
}

}  // namespace
}  // namespace koinon::kernels
