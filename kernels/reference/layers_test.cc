// Values that were worked out by hand. Gradients: gradient_test.cc.

#include "kernels/reference/layers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/test_models.h"

namespace koinon::kernels::reference {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::Pointwise;

// The only layer, or the first, of a model.
std::vector<double> Apply(const ModelGraph& graph, std::vector<double> input,
                          const std::vector<double>& weight = {},
                          const std::vector<double>& bias = {}) {
  const ModelGraph::Layer& layer = graph.layers()[0];
  std::vector<double> output(ElementCount(layer.output_shape));
  LayerTensors tensors;
  tensors.batch = 1;
  tensors.weight = weight.empty() ? nullptr : weight.data();
  tensors.bias = bias.empty() ? nullptr : bias.data();
  tensors.input = input.data();
  tensors.output = output.data();
  ForwardLayer(layer, DropoutState{}, tensors);
  return output;
}

ModelGraph WithTail(const std::string& input, const std::string& layer) {
  return ParseGraph("input_shape: [" + input + "] layers { layers { " + layer +
                    " } layers { flatten {} } layers { dense { units: 1 } } }");
}

TEST(ForwardLayer_Dense, RowsOfWeights_MeetTheInput) {
  EXPECT_THAT(Apply(WithTail("2", "dense { units: 2 }"), {10, 100},
                    {1, 2, 3, 4}, {0.5, -0.5}),
              ElementsAre(210.5, 429.5));
}

TEST(ForwardLayer_Conv2d, Kernel_IsNotFlipped) {
  // Cross-correlation, as in every deep-learning library.
  EXPECT_THAT(Apply(WithTail("1, 2, 3", "conv2d { channels: 1 kernel: 2 }"),
                    {1, 2, 3, 4, 5, 6}, {1, 10, 100, 1000}, {0}),
              ElementsAre(1 + 20 + 400 + 5000, 2 + 30 + 500 + 6000));
}

TEST(ForwardLayer_Conv2d, Groups_SeeTheirOwnChannels) {
  EXPECT_THAT(
      Apply(WithTail("2, 1, 1", "conv2d { channels: 4 kernel: 1 groups: 2 }"),
            {1, 10}, {1, 2, 3, 4}, {0, 0, 0, 0}),
      ElementsAre(1, 2, 30, 40));
}

TEST(ForwardLayer_MaxPool, Padding_NeverWins) {
  EXPECT_THAT(
      Apply(WithTail("1, 2, 2", "max_pool { kernel: 2 stride: 2 padding: 1 }"),
            {-1, -2, -3, -4}),
      ElementsAre(-1, -2, -3, -4));
}

TEST(ForwardLayer_AveragePool, Padding_CountsAsZeros) {
  EXPECT_THAT(Apply(WithTail("1, 2, 2",
                             "average_pool { kernel: 2 stride: 2 padding: 1 }"),
                    {4, 8, 12, 16}),
              ElementsAre(1, 2, 3, 4));
}

TEST(ForwardLayer_Activation, KnownPoints_ComeOut) {
  const auto at = [](const char* kind, std::vector<double> x) {
    return Apply(WithTail("3", std::string("activation: ") + kind), x);
  };
  EXPECT_THAT(at("RELU", {-2, 0, 2}), ElementsAre(0, 0, 2));
  EXPECT_THAT(at("TANH", {-50, 0, 50}), ElementsAre(-1, 0, 1));
  EXPECT_THAT(at("SIGMOID", {-800, 0, 800}), ElementsAre(0, 0.5, 1));
  // 0.5 (1 + tanh(sqrt(2 / pi) 1.044715)) = 0.84119199...
  EXPECT_THAT(at("GELU", {-20, 0, 1}),
              Pointwise(DoubleNear(1e-8), {0.0, 0.0, 0.8411919906}));
}

TEST(ForwardLayer_LayerNorm, Values_GetMeanZeroAndVarianceOne) {
  const double d = std::sqrt(2.0 / 3 + 1e-5);
  EXPECT_THAT(
      Apply(WithTail("3", "layer_norm {}"), {4, 5, 6}, {1, 1, 2}, {0, 7, 0}),
      Pointwise(DoubleNear(1e-12), {-1 / d, 7.0, 2 / d}));
}

TEST(ForwardLayer_GroupNorm, Groups_AreNormalisedApart) {
  const double d = std::sqrt(1 + 1e-5);
  EXPECT_THAT(Apply(WithTail("2, 1, 2", "group_norm { groups: 2 }"),
                    {1, 3, 100, 102}, {1, 10}, {0, 0}),
              Pointwise(DoubleNear(1e-9), {-1 / d, 1 / d, -10 / d, 10 / d}));
}

TEST(ForwardLayer_Dropout, Active_DropsAndScales) {
  const ModelGraph graph = WithTail("1000", "dropout { rate: 0.75 }");
  std::vector<double> input(1000, 1.0), output(1000);
  LayerTensors tensors;
  tensors.batch = 1;
  tensors.input = input.data();
  tensors.output = output.data();
  ForwardLayer(graph.layers()[0], DropoutState{true, 3}, tensors);
  EXPECT_THAT(output, testing::Each(testing::AnyOf(0.0, 4.0)));
  EXPECT_THAT(output, testing::Contains(0.0));
  EXPECT_THAT(output, testing::Contains(4.0));
}

}  // namespace
}  // namespace koinon::kernels::reference
