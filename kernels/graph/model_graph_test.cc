#include "kernels/graph/model_graph.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "base/status_matchers.h"

namespace koinon::kernels {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

absl::StatusOr<ModelGraph> Build(const std::string& text) {
  v1::ModelSpec spec;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &spec));
  return ModelGraph::Build(spec);
}

std::vector<std::string> TensorNames(const ModelGraph& graph) {
  std::vector<std::string> names;
  for (const TensorSpec& tensor : graph.layout().tensors()) {
    names.push_back(tensor.name);
  }
  return names;
}

std::vector<float> Initial(const ModelGraph& graph, uint64_t seed) {
  std::vector<float> values(graph.layout().total_elements());
  graph.InitializeParameters(seed, 0, absl::MakeSpan(values));
  return values;
}

TEST(ModelGraph_Cnn, OnMnist_HasTheParametersOfMcMahanEtAl) {
  ASSERT_OK_AND_ASSIGN(ModelGraph graph,
                       Build("input_shape: [1, 28, 28] cnn { classes: 10 }"));
  // "Communication-efficient learning of deep networks from decentralized
  // data", section 3.
  EXPECT_EQ(graph.layout().total_elements(), 1'663'370u);
  EXPECT_EQ(graph.input_size(), 784);
  EXPECT_EQ(graph.output_size(), 10);
}

TEST(ModelGraph_Cnn, OnFemnist_HasTheParametersOfLeaf) {
  ASSERT_OK_AND_ASSIGN(
      ModelGraph graph,
      Build("input_shape: [1, 28, 28] cnn { classes: 62 dense: 2048 }"));
  EXPECT_EQ(graph.layout().total_elements(), 6'603'710u);
}

TEST(ModelGraph_Cnn, Tensors_AreNamedAndShapedAsInPyTorch) {
  ASSERT_OK_AND_ASSIGN(
      ModelGraph graph,
      Build("input_shape: [1, 8, 8] cnn { classes: 10 kernel: 3 dense: 9 }"));
  EXPECT_THAT(
      TensorNames(graph),
      ElementsAre("conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias",
                  "fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"));
  EXPECT_THAT(graph.layout().tensors()[2].shape, ElementsAre(64, 32, 3, 3));
  EXPECT_THAT(graph.layout().tensors()[4].shape, ElementsAre(9, 64 * 2 * 2));
  EXPECT_TRUE(graph.layout().AllF32());
}

TEST(ModelGraph_LayerList, Layers_PointAtTheirTensors) {
  ASSERT_OK_AND_ASSIGN(
      ModelGraph graph,
      Build("input_shape: [2, 6, 6] layers {"
            "  layers { conv2d { channels: 4 kernel: 3 no_bias: true } }"
            "  layers { group_norm { groups: 2 } }"
            "  layers { flatten {} }"
            "  layers { dense { units: 3 } } }"));
  EXPECT_THAT(TensorNames(graph),
              ElementsAre("conv1.weight", "norm1.weight", "norm1.bias",
                          "fc1.weight", "fc1.bias"));
  const auto& layers = graph.layers();
  ASSERT_EQ(layers.size(), 4u);
  EXPECT_EQ(layers[0].weight, 0);
  EXPECT_EQ(layers[0].bias, -1);
  EXPECT_EQ(layers[1].weight, 1);
  EXPECT_EQ(layers[2].weight, -1);
  EXPECT_EQ(layers[3].bias, 4);
  EXPECT_THAT(layers[2].output_shape, ElementsAre(64));
  EXPECT_EQ(layers[1].spec.group_norm().epsilon(), 1e-5);
}

struct BadModel {
  const char* name;
  const char* text;
  const char* message;
};

class ModelGraphErrors : public testing::TestWithParam<BadModel> {};

TEST_P(ModelGraphErrors, BadModel_SaysWhatAndWhere) {
  EXPECT_THAT(Build(GetParam().text),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr(GetParam().message)));
}

INSTANTIATE_TEST_SUITE_P(
    Models, ModelGraphErrors,
    testing::Values(
        BadModel{"NoInput", "mlp { classes: 2 }", "model.input_shape"},
        BadModel{"FlatImage", "input_shape: [2, 2] mlp { classes: 2 }",
                 "found [2, 2]"},
        BadModel{"ZeroExtent", "input_shape: [0] mlp { classes: 2 }",
                 "found 0"},
        BadModel{"HugeInput",
                 "input_shape: [4000000000, 4000000000, 4000000000]"
                 " mlp { classes: 2 }",
                 "at most"},
        BadModel{"HugeWeight",
                 "input_shape: [2000000] mlp { classes: 2000000 }",
                 "layer 1 (dense)"},
        BadModel{"NoLayers", "input_shape: [2] layers {}",
                 "at least one layer"},
        BadModel{"UnsetLayer", "input_shape: [2] layers { layers {} }",
                 "layer 1 (no kind): expected one of dense"},
        BadModel{"LayerByPlace",
                 "input_shape: [2] layers { layers { dense { units: 2 } }"
                 " layers { dense {} } }",
                 "layer 2 (dense): units"},
        BadModel{"ImageOutput",
                 "input_shape: [1, 2, 2] layers { layers { conv2d {"
                 " channels: 1 kernel: 1 } } }",
                 "found [1, 2, 2] after conv1"},
        BadModel{"NoParameters",
                 "input_shape: [2] layers { layers { activation: RELU } }",
                 "at least one layer with parameters"}),
    [](const auto& info) { return info.param.name; });

TEST(ModelGraph_InitializeParameters, AnySplit_GivesTheSameValues) {
  ASSERT_OK_AND_ASSIGN(ModelGraph graph,
                       Build("input_shape: [7] mlp { hidden: 5 classes: 3 }"));
  const std::vector<float> whole = Initial(graph, 11);
  for (size_t block : {1, 4, 36, 57}) {
    std::vector<float> pieces(whole.size());
    for (size_t at = 0; at < pieces.size(); at += block) {
      graph.InitializeParameters(11, at,
                                 absl::MakeSpan(pieces).subspan(at, block));
    }
    EXPECT_EQ(pieces, whole) << "blocks of " << block;
  }
}

TEST(ModelGraph_InitializeParameters, OtherSeed_GivesOtherValues) {
  ASSERT_OK_AND_ASSIGN(ModelGraph graph,
                       Build("input_shape: [7] mlp { hidden: 5 classes: 3 }"));
  EXPECT_EQ(Initial(graph, 11), Initial(graph, 11));
  EXPECT_NE(Initial(graph, 11), Initial(graph, 12));
}

TEST(ModelGraph_InitializeParameters, Weights_FillTheirIntervalEvenly) {
  ASSERT_OK_AND_ASSIGN(
      ModelGraph graph,
      Build("input_shape: [400] mlp { hidden: 100 classes: 50 }"));
  const std::vector<float> values = Initial(graph, 3);
  const size_t n = 400 * 100;
  const double he = std::sqrt(6.0 / 400);
  double sum = 0, largest = 0;
  for (size_t i = 0; i < n; ++i) {
    sum += values[i];
    largest = std::max(largest, std::abs(double{values[i]}));
  }
  EXPECT_LE(largest, he);
  EXPECT_GT(largest, 0.999 * he);
  // A mean of n uniform values has standard deviation he / sqrt(3 n); five of
  // them: a false alarm in two million seeds, and this seed is fixed.
  EXPECT_NEAR(sum / n, 0, 5 * he / std::sqrt(3.0 * n));
  // The second layer feeds no rectifier.
  const double glorot = std::sqrt(6.0 / (100 + 50));
  largest = 0;
  for (size_t i = n + 100; i < n + 100 + 5000; ++i) {
    largest = std::max(largest, std::abs(double{values[i]}));
  }
  EXPECT_LE(largest, glorot);
  EXPECT_GT(largest, 0.99 * glorot);
}

TEST(ModelGraph_InitializeParameters, BiasesZero_ScalesOne) {
  ASSERT_OK_AND_ASSIGN(
      ModelGraph graph,
      Build("input_shape: [4] layers { layers { layer_norm {} }"
            " layers { dense { units: 2 } } }"));
  const std::vector<float> values = Initial(graph, 1);
  const absl::Span<const float> span(values);
  EXPECT_THAT(span.subspan(0, 4), Each(1.0f));
  EXPECT_THAT(span.subspan(4, 4), Each(0.0f));
  EXPECT_THAT(span.subspan(16, 2), Each(0.0f));
}

TEST(ModelGraph_InitializeParameters, ReluBehindNormAndPool_StillCountsAsHe) {
  ASSERT_OK_AND_ASSIGN(
      ModelGraph graph,
      Build("input_shape: [1, 40, 40] layers {"
            " layers { conv2d { channels: 200 kernel: 3 } }"
            " layers { group_norm { groups: 4 } }"
            " layers { max_pool { kernel: 2 } }"
            " layers { activation: GELU } layers { flatten {} }"
            " layers { dense { units: 1 } } }"));
  const std::vector<float> values = Initial(graph, 5);
  float largest = 0;
  for (size_t i = 0; i < 200 * 9; ++i) {
    largest = std::max(largest, std::abs(values[i]));
  }
  EXPECT_GT(largest, std::sqrt(6.0 / (9 + 1800)));  // Glorot's bound
  EXPECT_LE(largest, std::sqrt(6.0 / 9));
}

}  // namespace
}  // namespace koinon::kernels
