#include "kernels/loss.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/random.h"

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

struct Drawn {
  std::vector<float> logits;
  std::vector<double> wide;
  std::vector<int32_t> labels;

  Drawn(size_t rows, size_t classes, uint64_t seed) {
    Random random(seed);
    for (size_t i = 0; i < rows * classes; ++i) {
      logits.push_back(static_cast<float>(4 * random.NextNormal()));
      wide.push_back(logits.back());
    }
    for (size_t i = 0; i < rows; ++i) {
      labels.push_back(static_cast<int32_t>(random.NextBelow(classes)));
    }
  }
};

// Single precision has loops of its own, with a beginning and an end of every
// length; double precision says what is right.
TEST(ComputeLoss_CrossEntropy, SinglePrecision_FollowsDouble) {
  for (size_t classes : {1, 2, 10, 15, 16, 17, 33, 1023, 1025, 50'257}) {
    SCOPED_TRACE(classes);
    const size_t rows = 5;
    const Drawn drawn(rows, classes, classes);
    std::vector<float> found(rows * classes);
    std::vector<double> wanted(rows * classes);
    const BatchMetrics fast =
        ComputeLoss(kCrossEntropy, Labelled(drawn.labels), classes,
                    drawn.logits.data(), found.data());
    const BatchMetrics truth =
        ComputeLoss(kCrossEntropy, Labelled(drawn.labels), classes,
                    drawn.wide.data(), wanted.data());
    // A unit in the last place of an exponential is 6e-8 of it; sums of up to
    // 64 in single precision lose as much again, at random.
    EXPECT_NEAR(fast.loss, truth.loss, 1e-6);
    EXPECT_EQ(fast.correct, truth.correct);
    for (size_t i = 0; i < found.size(); ++i) {
      // The differences to the largest logit, up to 40, are rounded; the
      // label's gradient is a difference to 1.
      const bool is_label =
          static_cast<int32_t>(i % classes) == drawn.labels[i / classes];
      ASSERT_NEAR(found[i], wanted[i],
                  4e-6 * std::abs(wanted[i]) + (is_label ? 1e-7 : 1e-30))
          << i;
    }
    const BatchMetrics alone =
        ComputeLoss<float>(kCrossEntropy, Labelled(drawn.labels), classes,
                           drawn.logits.data(), nullptr);
    EXPECT_EQ(alone.loss, fast.loss);
  }
}

TEST(ComputeLoss_CrossEntropy, Threads_HaveNoPartInIt) {
  const size_t rows = 300, classes = 400;  // more rows than wait at a time
  const Drawn drawn(rows, classes, 3);
  std::vector<float> alone(rows * classes), together(rows * classes);
  const BatchMetrics one =
      ComputeLoss(kCrossEntropy, Labelled(drawn.labels), classes,
                  drawn.logits.data(), alone.data());
  const BatchMetrics three =
      ComputeLoss(kCrossEntropy, Labelled(drawn.labels), classes,
                  drawn.logits.data(), together.data(), 3);
  EXPECT_EQ(one.loss, three.loss);
  EXPECT_EQ(one.correct, three.correct);
  EXPECT_EQ(alone, together);
}

TEST(ComputeLoss_CrossEntropy, NaN_IsNotHidden) {
  const std::vector<int32_t> labels = {0};
  std::vector<float> logits(20, 1.0f), gradient(20);
  logits[17] = std::nanf("");
  EXPECT_TRUE(std::isnan(ComputeLoss(kCrossEntropy, Labelled(labels), 20,
                                     logits.data(), gradient.data())
                             .loss));
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
