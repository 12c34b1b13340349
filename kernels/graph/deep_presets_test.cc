// The presets as models: sizes by layout alone, nothing is allocated.

#include "kernels/graph/deep_presets.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "base/status_matchers.h"
#include "kernels/graph/model_graph.h"

namespace koinon::kernels {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

absl::StatusOr<ModelGraph> Build(const std::string& text) {
  v1::ModelSpec spec;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &spec));
  return ModelGraph::Build(spec);
}

// Without running moments, which other libraries do not count either.
size_t TrainedParameters(const ModelGraph& graph) {
  size_t count = 0;
  for (size_t t = 0; t < graph.layout().tensors().size(); ++t) {
    if (!graph.is_buffer(t)) count += graph.layout().element_count(t);
  }
  return count;
}

size_t CountLayers(const ModelGraph& graph, v1::Layer::KindCase kind) {
  return std::count_if(
      graph.layers().begin(), graph.layers().end(),
      [&](const auto& layer) { return layer.spec.kind_case() == kind; });
}

TEST(ExpandResNet, Depth20_HasThePapersParameters) {
  for (const char* norm : {"CONV_NORM_UNSPECIFIED", "BATCH_NORM"}) {
    ASSERT_OK_AND_ASSIGN(
        ModelGraph graph,
        Build(std::string("input_shape: [3, 32, 32] resnet { classes: 10 "
                          "norm: ") +
              norm + " }"));
    // The paper's 0.27M (269,722 with parameter-free shortcuts) and two 1x1
    // convolutions with norms: 16 * 32 + 32 * 64 + 2 * 32 + 2 * 64.
    EXPECT_EQ(TrainedParameters(graph), 269'722u + 2'752u);
    EXPECT_EQ(CountLayers(graph, v1::Layer::kResidual), 9u);
    EXPECT_EQ(CountLayers(graph, v1::Layer::kConv2D), 21u);
  }
}

TEST(ExpandResNet, NoNorm_IsGroupNorm) {
  ASSERT_OK_AND_ASSIGN(
      ModelGraph graph,
      Build("input_shape: [3, 32, 32] resnet { classes: 10 }"));
  EXPECT_EQ(CountLayers(graph, v1::Layer::kGroupNorm), 21u);
  EXPECT_EQ(CountLayers(graph, v1::Layer::kBatchNorm), 0u);
}

TEST(ExpandResNet, Depth110_HasThePapersParameters) {
  ASSERT_OK_AND_ASSIGN(
      ModelGraph graph,
      Build("input_shape: [3, 32, 32] resnet { classes: 10 depth: 110 }"));
  EXPECT_EQ(TrainedParameters(graph), 1'727'962u + 2'752u);
}

TEST(ExpandMobileNetV3Small, ImageNet_HasTorchvisionsParameters) {
  ASSERT_OK_AND_ASSIGN(ModelGraph graph,
                       Build("input_shape: [3, 224, 224] mobilenet_v3_small {"
                             " classes: 1000 norm: BATCH_NORM }"));
  EXPECT_EQ(TrainedParameters(graph), 2'542'856u);
  EXPECT_EQ(CountLayers(graph, v1::Layer::kSqueezeExcite), 9u);
  EXPECT_EQ(CountLayers(graph, v1::Layer::kResidual), 6u);
  const ModelGraph::Layer& pool = *std::find_if(
      graph.layers().begin(), graph.layers().end(),
      [](const auto& layer) { return layer.spec.has_global_average_pool(); });
  EXPECT_THAT(pool.input_shape, ElementsAre(576, 7, 7));
}

TEST(ExpandMobileNetV3Small, GroupNorm_DividesEveryLayer) {
  ASSERT_OK_AND_ASSIGN(ModelGraph graph,
                       Build("input_shape: [3, 32, 32] mobilenet_v3_small {"
                             " classes: 10 }"));
  EXPECT_EQ(CountLayers(graph, v1::Layer::kGroupNorm), 34u);
}

TEST(ExpandGpt, OfGpt2Small_Has124439808Parameters) {
  ASSERT_OK_AND_ASSIGN(
      ModelGraph graph,
      Build("input_shape: [1024] gpt { vocabulary: 50257 layers: 12 heads: 12"
            " width: 768 }"));
  EXPECT_EQ(graph.layout().total_elements(), 124'439'808u);
  EXPECT_EQ(graph.output_positions(), 1024);
  EXPECT_EQ(graph.output_size(), 50257);
  EXPECT_EQ(graph.vocabulary(), 50257);
}

TEST(ExpandGpt, OfGpt2Xl_Fits) {
  ASSERT_OK_AND_ASSIGN(
      ModelGraph graph,
      Build("input_shape: [1024] gpt { vocabulary: 50257 layers: 48 heads: 25"
            " width: 1600 dropout: 0.1 }"));
  EXPECT_EQ(graph.layout().total_elements(), 1'557'611'200u);
  // After the embeddings, and on each of two branches in a block.
  EXPECT_EQ(CountLayers(graph, v1::Layer::kDropout), 97u);
}

struct BadPreset {
  const char* name;
  const char* text;
  const char* message;
};

class DeepPresetErrors : public testing::TestWithParam<BadPreset> {};

TEST_P(DeepPresetErrors, BadField_IsNamedWithWhatIsAllowed) {
  EXPECT_THAT(Build(GetParam().text),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr(GetParam().message)));
}

INSTANTIATE_TEST_SUITE_P(
    Presets, DeepPresetErrors,
    testing::Values(
        BadPreset{"ResNetOnVector", "input_shape: 9 resnet { classes: 2 }",
                  "a resnet takes images"},
        BadPreset{"ResNetClasses", "input_shape: [3, 8, 8] resnet {}",
                  "model.resnet.classes: expected 1"},
        BadPreset{"ResNetDepth",
                  "input_shape: [3, 8, 8] resnet { classes: 2 depth: 21 }",
                  "model.resnet.depth: expected 6n + 2, from 8 to at most "
                  "1000, found 21"},
        BadPreset{"ResNetDeep",
                  "input_shape: [3, 8, 8] resnet { classes: 2"
                  " depth: 6000002 }",
                  "found 6000002"},
        BadPreset{"ResNetLayers",
                  "input_shape: [3, 8, 8] resnet { classes: 2 depth: 998 }",
                  "expected at most 1000 layers in all"},
        BadPreset{"ResNetNorm",
                  "input_shape: [3, 8, 8] resnet { classes: 2 norm: 7 }",
                  "model.resnet.norm: expected GROUP_NORM or BATCH_NORM, "
                  "found 7"},
        BadPreset{"MobileNetOnVector",
                  "input_shape: 9 mobilenet_v3_small { classes: 2 }",
                  "a mobilenet_v3_small takes images"},
        BadPreset{"MobileNetNorm",
                  "input_shape: [3, 32, 32] mobilenet_v3_small { classes: 2"
                  " norm: 7 }",
                  "model.mobilenet_v3_small.norm"},
        BadPreset{"GptOnImage",
                  "input_shape: [3, 8, 8] gpt { vocabulary: 5 layers: 1"
                  " heads: 1 width: 4 }",
                  "a gpt takes tokens"},
        BadPreset{"GptHeads",
                  "input_shape: 8 gpt { vocabulary: 5 layers: 1 heads: 3"
                  " width: 4 }",
                  "model.gpt.heads: expected a divisor of the width of 4"},
        BadPreset{"GptLayers",
                  "input_shape: 8 gpt { vocabulary: 5 layers: 1000000000"
                  " heads: 1 width: 4 }",
                  "model.gpt.layers: expected 1 to 1000"},
        BadPreset{"GptDropout",
                  "input_shape: 8 gpt { vocabulary: 5 layers: 1 heads: 1"
                  " width: 4 dropout: 1 }",
                  "model.gpt.dropout: expected [0, 1), found 1"}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace koinon::kernels
