// Training in bfloat16 learns what training in float32 learns.

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <optional>
#include <vector>

#include "base/random.h"
#include "base/status_matchers.h"
#include "kernels/bfloat16.h"
#include "kernels/onednn/onednn_network.h"
#include "kernels/optimizer.h"
#include "kernels/test_models.h"

namespace koinon::kernels {
namespace {

constexpr size_t kBatch = 32;
constexpr int kSteps = 60;
constexpr int kWindow = 10;  // steps whose losses make one point of a curve

// What is learnt: examples one after the other.
struct Task {
  ModelGraph graph;
  size_t count = 0;
  std::vector<float> inputs;    // [count, input_size]
  std::vector<int32_t> labels;  // [count, positions]
};

// Ten shapes of smooth blots, each example one of them under noise.
Task Digits() {
  Task task{ParseGraph("input_shape: [1, 14, 14] cnn { classes: 10 kernel: 3"
                       " channels1: 16 channels2: 32 dense: 32 }"),
            640,
            {},
            {}};
  constexpr int kSide = 14;
  Random random(5);
  std::vector<std::vector<float>> shapes(10);
  for (auto& shape : shapes) {
    shape.assign(kSide * kSide, 0);
    for (int blot = 0; blot < 4; ++blot) {
      const double h = 2 + 10 * random.NextDouble();
      const double w = 2 + 10 * random.NextDouble();
      for (int i = 0; i < kSide * kSide; ++i) {
        const double dh = i / kSide - h, dw = i % kSide - w;
        shape[i] += static_cast<float>(std::exp(-(dh * dh + dw * dw) / 4));
      }
    }
  }
  for (size_t n = 0; n < task.count; ++n) {
    const auto label = static_cast<int32_t>(random.NextBelow(10));
    task.labels.push_back(label);
    for (float value : shapes[label]) {
      task.inputs.push_back(value +
                            static_cast<float>(0.5 * random.NextNormal()));
    }
  }
  return task;
}

// Texts in which a character follows from the one before it, mostly.
Task Texts() {
  constexpr int kLength = 12, kCharacters = 17;
  Task task{ParseGraph("input_shape: 12 gpt { vocabulary: 17 layers: 2 heads: 2"
                       " width: 32 }"),
            640,
            {},
            {}};
  Random random(6);
  for (size_t n = 0; n < task.count; ++n) {
    auto character = static_cast<int32_t>(random.NextBelow(kCharacters));
    for (int t = 0; t < kLength; ++t) {
      task.inputs.push_back(static_cast<float>(character));
      character = random.NextBelow(10) == 0
                      ? static_cast<int32_t>(random.NextBelow(kCharacters))
                      : (3 * character + 1) % kCharacters;
      task.labels.push_back(character);
    }
  }
  return task;
}

// Mean losses of every kWindow steps; `order` decides which examples come when.
std::vector<double> LossCurve(const Task& task,
                              std::optional<Bfloat16Products> products,
                              uint64_t order) {
  Network::Options options;
  options.batch_size = kBatch;
  options.bfloat16 = products.has_value();
  auto network = NewOneDnnNetworkWith(
      task.graph, options, products.value_or(Bfloat16Products::kFastest));
  EXPECT_OK(network.status());
  task.graph.InitializeParameters(1, 0, (*network)->parameters());
  v1::Optimizer spec;
  spec.mutable_adam()->set_learning_rate(0.003);
  auto optimizer =
      LocalOptimizer::Create(spec, (*network)->parameters().size());
  EXPECT_OK(optimizer.status());
  Random random(order);
  const size_t input_size = task.graph.input_size();
  const size_t positions = task.graph.output_positions();
  std::vector<double> curve(kSteps / kWindow);
  for (int step = 0; step < kSteps; ++step) {
    std::vector<float> inputs;
    std::vector<int32_t> labels;
    for (size_t b = 0; b < kBatch; ++b) {
      const size_t n = random.NextBelow(task.count);
      inputs.insert(inputs.end(), &task.inputs[n * input_size],
                    &task.inputs[n * input_size] + input_size);
      labels.insert(labels.end(), &task.labels[n * positions],
                    &task.labels[n * positions] + positions);
    }
    Batch batch;
    batch.size = kBatch;
    batch.inputs = inputs;
    batch.labels = labels;
    const auto metrics = (*network)->ForwardBackward(batch, step);
    EXPECT_OK(metrics.status());
    curve[step / kWindow] += metrics->loss / kWindow;
    (*optimizer)->Step(1, (*network)->gradients(), (*network)->parameters());
  }
  return curve;
}

double MeanDistance(const std::vector<double>& a,
                    const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += std::abs(a[i] - b[i]);
  return sum / static_cast<double>(a.size());
}

// Noise is what the order of the examples makes of the same start in float32;
// bfloat16 must make less of it than that, and learn.
void ExpectWithinNoise(const Task& task, Bfloat16Products products) {
  double noise = 0, difference = 0;
  constexpr int kOrders = 3;
  std::vector<std::vector<double>> curves;
  for (int order = 0; order < kOrders; ++order) {
    curves.push_back(LossCurve(task, std::nullopt, order));
    const std::vector<double> rounded = LossCurve(task, products, order);
    difference += MeanDistance(rounded, curves.back()) / kOrders;
    EXPECT_LT(rounded.back(), 0.6 * rounded.front());
  }
  for (int order = 0; order < kOrders; ++order) {
    noise +=
        MeanDistance(curves[order], curves[(order + 1) % kOrders]) / kOrders;
  }
  EXPECT_LT(difference, noise);
  std::printf("bfloat16 %.4f, noise %.4f\n", difference, noise);
}

class Bfloat16Training : public testing::TestWithParam<Bfloat16Products> {
 protected:
  void SetUp() override {
    if (!HasBfloat16()) GTEST_SKIP() << CheckBfloat16().message();
  }
};

TEST_P(Bfloat16Training, Cnn_LossCurveIsWithinNoiseOfFloat32) {
  ExpectWithinNoise(Digits(), GetParam());
}

TEST_P(Bfloat16Training, Gpt_LossCurveIsWithinNoiseOfFloat32) {
  ExpectWithinNoise(Texts(), GetParam());
}

INSTANTIATE_TEST_SUITE_P(Both, Bfloat16Training,
                         testing::Values(Bfloat16Products::kProcessor,
                                         Bfloat16Products::kSinglePrecision));

}  // namespace
}  // namespace koinon::kernels
