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
  ForwardLayer(layer, StepState{}, tensors);
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

TEST(ForwardLayer_Activation, HardOnes_AreStraightBetweenTheirCorners) {
  const auto at = [](const char* kind, std::vector<double> x) {
    return Apply(WithTail("5", std::string("activation: ") + kind), x);
  };
  EXPECT_THAT(at("HARD_SIGMOID", {-4, -3, 0, 1.5, 4}),
              ElementsAre(0, 0, 0.5, 0.75, 1));
  EXPECT_THAT(at("HARD_SWISH", {-4, -1.5, 0, 1.5, 4}),
              ElementsAre(0, -0.375, 0, 1.125, 4));
}

TEST(ForwardLayer_LayerNorm, OfSequence_IsOfEachPosition) {
  const ModelGraph graph = ParseGraph(
      "input_shape: 2 layers { layers { embedding { vocabulary: 2 width: 2 } }"
      " layers { layer_norm {} } }");
  std::vector<double> input = {1, 3, 100, 104}, output(4);
  const std::vector<double> weight = {1, 2}, bias = {0, 5};
  LayerTensors tensors;
  tensors.batch = 1;
  tensors.weight = weight.data();
  tensors.bias = bias.data();
  tensors.input = input.data();
  tensors.output = output.data();
  ForwardLayer(graph.layers()[1], StepState{}, tensors);
  EXPECT_THAT(output,
              Pointwise(DoubleNear(1e-4), {-1.0, 2.0 + 5, -1.0, 2.0 + 5}));
}

TEST(ForwardLayer_BatchNorm, Training_NormalisesOverTheBatchAndKeepsMoments) {
  const ModelGraph graph =
      WithTail("2", "batch_norm { epsilon: 1e-9 momentum: 0.25 }");
  std::vector<double> input = {1, 10, 3, 40}, output(4);
  const std::vector<double> weight = {1, 2}, bias = {0, 7};
  std::vector<double> mean = {4, 5}, variance = {1, 1};
  LayerTensors tensors;
  tensors.batch = 2;
  tensors.weight = weight.data();
  tensors.bias = bias.data();
  tensors.weight2 = mean.data();
  tensors.bias2 = variance.data();
  tensors.input = input.data();
  tensors.output = output.data();
  ForwardLayer(graph.layers()[0], StepState{.training = true}, tensors);
  EXPECT_THAT(output, Pointwise(DoubleNear(1e-8), {-1.0, 5.0, 1.0, 9.0}));
  // Means 2 and 25; variances, of two values, 2 and 450.
  EXPECT_THAT(mean, ElementsAre(3.5, 10));
  EXPECT_THAT(variance, ElementsAre(1.25, 113.25));
  // An evaluation goes by them and leaves them.
  mean = {1, 10};
  variance = {4, 25};
  ForwardLayer(graph.layers()[0], StepState{}, tensors);
  EXPECT_THAT(output, Pointwise(DoubleNear(1e-8), {0.0, 7.0, 1.0, 19.0}));
  EXPECT_THAT(mean, ElementsAre(1, 10));
}

TEST(ForwardLayer_Embedding, Tokens_TakeTheirRowsAndPositions) {
  const ModelGraph graph = ParseGraph(
      "input_shape: 2 layers { layers { embedding { vocabulary: 3 width: 2 } }"
      " }");
  EXPECT_THAT(Apply(graph, {2, 0}, {1, 2, 3, 4, 5, 6}, {10, 20, 30, 40}),
              ElementsAre(15, 26, 31, 42));
  // Without positions.
  EXPECT_THAT(Apply(graph, {2, 0}, {1, 2, 3, 4, 5, 6}),
              ElementsAre(5, 6, 1, 2));
}

TEST(ForwardLayer_Attention, LaterPositions_AreNotSeen) {
  const ModelGraph graph = ParseGraph(
      "input_shape: 2 layers { layers { embedding { vocabulary: 2 width: 3 } }"
      " layers { causal_attention { heads: 1 } } }");
  std::vector<double> output(2);
  // Queries, keys and values of one number each: the second position's scores
  // are 2 * 0 and 2 * ln(3) / 2.
  std::vector<double> input = {9, 0, 10, 2, std::log(3.0) / 2, 20};
  LayerTensors tensors;
  tensors.batch = 1;
  tensors.input = input.data();
  tensors.output = output.data();
  ForwardLayer(graph.layers()[1], StepState{}, tensors);
  EXPECT_THAT(output,
              Pointwise(DoubleNear(1e-12), {10.0, 10 * 0.25 + 20 * 0.75}));
}

TEST(ForwardLayer_SqueezeExcite, Channels_AreGated) {
  const ModelGraph graph = ParseGraph(
      "input_shape: [2, 1, 2] layers {"
      " layers { squeeze_excite { hidden: 1 } }"
      " layers { global_average_pool {} } }");
  std::vector<double> input = {1, 3, 10, 30}, output(4);
  const std::vector<double> weight = {1, 0.1}, bias = {-1};
  std::vector<double> weight2 = {0.5, -1}, bias2 = {0, 0};
  LayerTensors tensors;
  tensors.batch = 1;
  tensors.weight = weight.data();
  tensors.bias = bias.data();
  tensors.weight2 = weight2.data();
  tensors.bias2 = bias2.data();
  tensors.input = input.data();
  tensors.output = output.data();
  // Means 2 and 20, hidden 2 + 2 - 1 = 3, gates at 1.5 and -3.
  ForwardLayer(graph.layers()[0], StepState{}, tensors);
  EXPECT_THAT(output, ElementsAre(0.75, 2.25, 0, 0));
}

TEST(ForwardLayer_GlobalAveragePool, Channels_BecomeTheirMeans) {
  EXPECT_THAT(Apply(ParseGraph("input_shape: [2, 1, 2] layers {"
                               " layers { global_average_pool {} }"
                               " layers { dense { units: 1 } } }"),
                    {1, 3, 10, 30}),
              ElementsAre(2, 20));
}

TEST(ForwardLayer_Dropout, Active_DropsAndScales) {
  const ModelGraph graph = WithTail("1000", "dropout { rate: 0.75 }");
  std::vector<double> input(1000, 1.0), output(1000);
  LayerTensors tensors;
  tensors.batch = 1;
  tensors.input = input.data();
  tensors.output = output.data();
  ForwardLayer(graph.layers()[0], StepState{true, 3}, tensors);
  EXPECT_THAT(output, testing::Each(testing::AnyOf(0.0, 4.0)));
  EXPECT_THAT(output, testing::Contains(0.0));
  EXPECT_THAT(output, testing::Contains(4.0));
}

}  // namespace
}  // namespace koinon::kernels::reference
