#include "kernels/graph/layer_shape.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "base/status_matchers.h"

namespace koinon::kernels {
namespace {

using Shape = std::vector<int64_t>;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

v1::Layer Parse(const std::string& text) {
  v1::Layer layer;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &layer));
  return layer;
}

absl::StatusOr<LayerShape> Infer(const Shape& input, const std::string& text) {
  v1::Layer layer = Parse(text);
  return InferLayerShape(input, &layer);
}

TEST(InferLayerShape_Dense, OnVector_HasRowPerUnit) {
  ASSERT_OK_AND_ASSIGN(LayerShape shape, Infer({5}, "dense { units: 3 }"));
  EXPECT_THAT(shape.output, ElementsAre(3));
  EXPECT_THAT(shape.weight, ElementsAre(3, 5));
  EXPECT_THAT(shape.bias, ElementsAre(3));
}

TEST(InferLayerShape_Dense, WithoutBias_HasNone) {
  ASSERT_OK_AND_ASSIGN(LayerShape shape,
                       Infer({5}, "dense { units: 3 no_bias: true }"));
  EXPECT_THAT(shape.bias, IsEmpty());
}

TEST(InferLayerShape_Conv2d, StridePaddingGroups_ShapeAsPyTorch) {
  // torch.nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2) on [4, 9, 8].
  ASSERT_OK_AND_ASSIGN(
      LayerShape shape,
      Infer({4, 9, 8},
            "conv2d { channels: 6 kernel: 3 stride: 2 padding: 1 groups: 2 }"));
  EXPECT_THAT(shape.output, ElementsAre(6, 5, 4));
  EXPECT_THAT(shape.weight, ElementsAre(6, 2, 3, 3));
  EXPECT_THAT(shape.bias, ElementsAre(6));
}

TEST(InferLayerShape_Conv2d, Defaults_AreFilledIn) {
  v1::Layer layer = Parse("conv2d { channels: 6 kernel: 3 }");
  ASSERT_OK(InferLayerShape({1, 3, 3}, &layer));
  EXPECT_EQ(layer.conv2d().stride(), 1);
  EXPECT_EQ(layer.conv2d().groups(), 1);
}

TEST(InferLayerShape_Pool, OddExtent_RoundsDown) {
  ASSERT_OK_AND_ASSIGN(LayerShape shape,
                       Infer({2, 7, 5}, "max_pool { kernel: 2 }"));
  EXPECT_THAT(shape.output, ElementsAre(2, 3, 2));
  EXPECT_THAT(shape.weight, IsEmpty());
}

TEST(InferLayerShape_Norms, OnImage_ScalePerChannelOrPerValue) {
  ASSERT_OK_AND_ASSIGN(LayerShape group,
                       Infer({4, 3, 3}, "group_norm { groups: 2 }"));
  EXPECT_THAT(group.weight, ElementsAre(4));
  ASSERT_OK_AND_ASSIGN(LayerShape layer, Infer({4, 3, 3}, "layer_norm {}"));
  EXPECT_THAT(layer.bias, ElementsAre(4, 3, 3));
}

TEST(InferLayerShape_Sequence, Layers_WorkOnEachPosition) {
  ASSERT_OK_AND_ASSIGN(LayerShape dense, Infer({7, 5}, "dense { units: 3 }"));
  EXPECT_THAT(dense.output, ElementsAre(7, 3));
  EXPECT_THAT(dense.weight, ElementsAre(3, 5));
  ASSERT_OK_AND_ASSIGN(LayerShape norm, Infer({7, 5}, "layer_norm {}"));
  EXPECT_THAT(norm.output, ElementsAre(7, 5));
  EXPECT_THAT(norm.weight, ElementsAre(5));
  ASSERT_OK_AND_ASSIGN(LayerShape attention,
                       Infer({7, 12}, "causal_attention { heads: 2 }"));
  EXPECT_THAT(attention.output, ElementsAre(7, 4));
  EXPECT_THAT(attention.weight, IsEmpty());
}

TEST(InferLayerShape_Embedding, Tokens_BecomeASequence) {
  ASSERT_OK_AND_ASSIGN(LayerShape shape,
                       Infer({7}, "embedding { vocabulary: 9 width: 4 }"));
  EXPECT_THAT(shape.output, ElementsAre(7, 4));
  EXPECT_THAT(shape.weight, ElementsAre(9, 4));
  EXPECT_THAT(shape.bias, ElementsAre(7, 4));
  ASSERT_OK_AND_ASSIGN(
      shape,
      Infer({7}, "embedding { vocabulary: 9 width: 4 no_positions: true }"));
  EXPECT_THAT(shape.bias, IsEmpty());
}

TEST(InferLayerShape_BatchNorm, OnImage_HasMomentsPerChannel) {
  v1::Layer layer = Parse("batch_norm {}");
  ASSERT_OK_AND_ASSIGN(LayerShape shape, InferLayerShape({4, 3, 3}, &layer));
  EXPECT_THAT(shape.weight, ElementsAre(4));
  EXPECT_THAT(shape.weight2, ElementsAre(4));
  EXPECT_THAT(shape.bias2, ElementsAre(4));
  EXPECT_EQ(layer.batch_norm().momentum(), 0.1);
  EXPECT_EQ(layer.batch_norm().epsilon(), 1e-5);
}

TEST(InferLayerShape_SqueezeExcite, OnImage_HasTwoDenseLayers) {
  ASSERT_OK_AND_ASSIGN(LayerShape shape,
                       Infer({4, 3, 3}, "squeeze_excite { hidden: 2 }"));
  EXPECT_THAT(shape.output, ElementsAre(4, 3, 3));
  EXPECT_THAT(shape.weight, ElementsAre(2, 4));
  EXPECT_THAT(shape.bias, ElementsAre(2));
  EXPECT_THAT(shape.weight2, ElementsAre(4, 2));
  EXPECT_THAT(shape.bias2, ElementsAre(4));
  ASSERT_OK_AND_ASSIGN(LayerShape pool,
                       Infer({4, 3, 5}, "global_average_pool {}"));
  EXPECT_THAT(pool.output, ElementsAre(4));
}

struct BadLayer {
  const char* name;
  Shape input;
  const char* text;
  const char* message;
};

class InferLayerShapeErrors : public testing::TestWithParam<BadLayer> {};

TEST_P(InferLayerShapeErrors, BadField_IsNamedWithWhatIsAllowed) {
  EXPECT_THAT(Infer(GetParam().input, GetParam().text),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr(GetParam().message)));
}

INSTANTIATE_TEST_SUITE_P(
    Fields, InferLayerShapeErrors,
    testing::Values(
        BadLayer{"Unset", {5}, "", "expected one of dense, conv2d"},
        BadLayer{"DenseOnImage",
                 {1, 5, 5},
                 "dense { units: 3 }",
                 "found [1, 5, 5]; put a flatten"},
        BadLayer{"NoUnits", {5}, "dense {}", "units: expected 1"},
        BadLayer{"ConvOnVector",
                 {5},
                 "conv2d { channels: 1 kernel: 1 }",
                 "expected an image"},
        BadLayer{"NoKernel", {1, 5, 5}, "conv2d { channels: 1 }", "kernel: "},
        BadLayer{"NoChannels", {1, 5, 5}, "conv2d { kernel: 1 }", "channels: "},
        BadLayer{"NegativeStride",
                 {1, 5, 5},
                 "conv2d { channels: 1 kernel: 1 stride: -1 }",
                 "stride: expected 1"},
        BadLayer{"WidePadding",
                 {1, 5, 5},
                 "conv2d { channels: 1 kernel: 3 padding: 3 }",
                 "padding: expected 0 to 2, found 3"},
        BadLayer{"LargeKernel",
                 {1, 5, 9},
                 "conv2d { channels: 1 kernel: 8 padding: 1 }",
                 "kernel: expected at most the padded height of 7, found 8"},
        BadLayer{"GroupsOfInput",
                 {3, 5, 5},
                 "conv2d { channels: 4 kernel: 1 groups: 2 }",
                 "groups: expected a divisor of the 3 input channels"},
        BadLayer{"GroupsOfOutput",
                 {4, 5, 5},
                 "conv2d { channels: 3 kernel: 1 groups: 2 }",
                 "groups: expected a divisor of the 3 output channels"},
        BadLayer{"PoolPadding",
                 {4, 5, 5},
                 "average_pool { kernel: 3 padding: 2 }",
                 "padding: expected 0 to 1, found 2"},
        BadLayer{"Activation",
                 {5},
                 "activation: ACTIVATION_UNSPECIFIED",
                 "expected RELU, GELU, TANH, SIGMOID, HARD_SWISH or HARD"},
        BadLayer{"DenseOnImageOfSequences",
                 {5, 5, 5},
                 "dense { units: 3 }",
                 "a sequence [positions, features], found [5, 5, 5]"},
        BadLayer{"GroupNormOnSequence",
                 {4, 4},
                 "group_norm { groups: 2 }",
                 "found [4, 4]; a layer_norm"},
        BadLayer{"BatchNormOnSequence",
                 {4, 4},
                 "batch_norm {}",
                 "found [4, 4]; a layer_norm"},
        BadLayer{"BatchNormMomentum",
                 {4},
                 "batch_norm { momentum: 1.5 }",
                 "momentum: expected (0, 1], found 1.5"},
        BadLayer{"BatchNormMomentumNan",
                 {4},
                 "batch_norm { momentum: nan }",
                 "momentum: expected (0, 1], found nan"},
        BadLayer{"EmbeddingOfSequence",
                 {4, 4},
                 "embedding { vocabulary: 4 width: 4 }",
                 "expected tokens [positions] as input, found [4, 4]"},
        BadLayer{"NoVocabulary",
                 {4},
                 "embedding { width: 4 }",
                 "vocabulary: expected 1 to 16777216, found 0"},
        BadLayer{"LargeVocabulary",
                 {4},
                 "embedding { vocabulary: 16777217 width: 4 }",
                 "vocabulary: expected 1 to 16777216, found 16777217"},
        BadLayer{
            "NoWidth", {4}, "embedding { vocabulary: 4 }", "width: expected 1"},
        BadLayer{"AttentionOnVector",
                 {12},
                 "causal_attention { heads: 2 }",
                 "queries, keys and values [positions, 3 * width]"},
        BadLayer{"AttentionWidth",
                 {5, 11},
                 "causal_attention { heads: 1 }",
                 "[positions, 3 * width] as input, found [5, 11]"},
        BadLayer{"Heads",
                 {5, 12},
                 "causal_attention { heads: 3 }",
                 "heads: expected a divisor of the width of 4, found 3"},
        BadLayer{"NoHeads",
                 {5, 12},
                 "causal_attention {}",
                 "heads: expected a divisor of the width of 4, found 0"},
        BadLayer{"SqueezeVector",
                 {5},
                 "squeeze_excite { hidden: 1 }",
                 "expected an image"},
        BadLayer{"SqueezeNothing",
                 {5, 2, 2},
                 "squeeze_excite {}",
                 "hidden: expected 1"},
        BadLayer{"GlobalPoolOfSequence",
                 {5, 2},
                 "global_average_pool {}",
                 "expected an image"},
        BadLayer{"RateOfOne", {5}, "dropout { rate: 1 }", "[0, 1), found 1"},
        BadLayer{"RateNan", {5}, "dropout { rate: nan }", "[0, 1), found nan"},
        BadLayer{"NoGroups", {4}, "group_norm {}", "groups: expected"},
        BadLayer{"NegativeEpsilon",
                 {4},
                 "layer_norm { epsilon: -1 }",
                 "epsilon: expected a number above 0"}),
    [](const auto& info) { return info.param.name; });

TEST(CheckedProduct, OverLimitOrOverflow_IsRefused) {
  EXPECT_THAT(CheckedProduct({3, 4}, 12), IsOkAndHolds(12));
  EXPECT_THAT(CheckedProduct({3, 4}, 11),
              StatusIs(absl::StatusCode::kInvalidArgument));
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  EXPECT_THAT(CheckedProduct({kMax, kMax}, kMax),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(
      CheckedProduct({2, 0}, kMax),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("[2, 0]")));
}

}  // namespace
}  // namespace koinon::kernels
