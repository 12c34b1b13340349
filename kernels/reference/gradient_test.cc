// Finite differences of the reference's own loss, for every layer and for whole
// models: what says that the reference's gradients are gradients.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "base/status_matchers.h"
#include "kernels/reference/reference_network.h"
#include "kernels/test_models.h"

namespace koinon::kernels {
namespace {

constexpr size_t kBatch = 3;
constexpr uint64_t kStepSeed = 77;  // the same dropout masks at each call

class ReferenceGradient : public testing::TestWithParam<NamedModel> {
 protected:
  void SetUp() override {
    Network::Options options;
    options.batch_size = kBatch;
    options.loss = GetParam().loss;
    ASSERT_OK_AND_ASSIGN(network_,
                         NewReferenceNetwork(GetParam().graph, options));
  }

  double LossOf(const Batch& batch) {
    auto metrics = network_->ForwardBackward(batch, kStepSeed);
    EXPECT_THAT(metrics, IsOk());
    return metrics->loss;
  }

  // The slope of the loss by parameter i, from both sides. Divides by the step
  // that single precision really took.
  double SlopeAt(const Batch& batch, size_t i, float step) {
    const float value = network_->parameters()[i];
    const float up = value + step, down = value - step;
    network_->parameters()[i] = up;
    const double above = LossOf(batch);
    network_->parameters()[i] = down;
    const double below = LossOf(batch);
    network_->parameters()[i] = value;
    return (above - below) / (double{up} - double{down});
  }

  std::unique_ptr<Network> network_;
};

TEST_P(ReferenceGradient, EveryParameter_MatchesFiniteDifferences) {
  const ModelGraph& graph = GetParam().graph;
  const Examples examples(graph, kBatch, 5);
  const Batch batch = examples.First(kBatch, GetParam().loss);
  DrawParameters(graph, 6, network_->parameters());
  LossOf(batch);
  const std::vector<float> gradients(network_->gradients().begin(),
                                     network_->gradients().end());
  // Large models are made of layers that small ones have too.
  const size_t checked = gradients.size() > 20'000 ? 60 : 300;
  const size_t stride = std::max<size_t>(1, gradients.size() / checked);
  constexpr float kStep = 0x1p-14f;
  for (size_t i = 0; i < gradients.size(); i += stride) {
    // Central differences are off by step^2 / 6 of the third derivative (4e-9,
    // times up to some hundreds behind a norm), the losses by 1e-16 / step,
    // the gradient by half a unit of single precision.
    const double tolerance =
        1e-6 * std::max(1.0, std::abs(double{gradients[i]}));
    double slope = SlopeAt(batch, i, kStep);
    if (std::abs(slope - gradients[i]) > tolerance) {
      // A step may cross a rectifier's corner: one in many thousands does, and
      // a shorter one does not.
      slope = SlopeAt(batch, i, kStep / 32);
    }
    ASSERT_NEAR(gradients[i], slope, tolerance)
        << graph.layout().DescribeElement(i);
  }
}

// Otherwise the test above could agree on nothing at all. (A bias in front of a
// norm of each channel has no effect, rightly.)
TEST_P(ReferenceGradient, Weights_HaveGradients) {
  const ModelGraph& graph = GetParam().graph;
  const Examples examples(graph, kBatch, 5);
  DrawParameters(graph, 6, network_->parameters());
  LossOf(examples.First(kBatch, GetParam().loss));
  for (const ModelGraph::Layer& layer : graph.layers()) {
    if (layer.weight < 0) continue;
    const auto gradient = network_->gradients().subspan(
        graph.layout().offset_bytes(layer.weight) / sizeof(float),
        graph.layout().element_count(layer.weight));
    EXPECT_TRUE(std::any_of(gradient.begin(), gradient.end(), [](float g) {
      return std::abs(g) > 1e-4;
    })) << layer.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, ReferenceGradient,
                         testing::ValuesIn(TestModels()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace koinon::kernels
