#include "kernels/graph/model_graph.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "absl/base/casts.h"
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

std::vector<std::string> LayerNames(const ModelGraph& graph) {
  std::vector<std::string> names;
  for (const auto& layer : graph.layers()) names.push_back(layer.name);
  return names;
}

TEST(ModelGraph_Residual, WithShortcut_IsWrittenOut) {
  ASSERT_OK_AND_ASSIGN(
      ModelGraph graph,
      Build("input_shape: [4] layers {"
            " layers { dense { units: 5 } }"
            " layers { residual {"
            "   body { dense { units: 3 } } body { activation: RELU }"
            "   shortcut { dense { units: 3 no_bias: true } } } }"
            " layers { dense { units: 2 } } }"));
  EXPECT_THAT(LayerNames(graph), ElementsAre("fc1", "fc2", "activation1", "fc3",
                                             "residual1", "fc4"));
  const auto& layers = graph.layers();
  EXPECT_EQ(layers[1].input, 1);
  EXPECT_EQ(layers[2].input, 2);
  EXPECT_EQ(layers[3].input, 1);
  EXPECT_EQ(layers[4].input, 3);
  EXPECT_EQ(layers[4].other, 4);
  EXPECT_EQ(layers[4].spec.residual().body_size(), 0);
  EXPECT_EQ(layers[4].weight, -1);
  EXPECT_EQ(layers[5].input, 5);
  EXPECT_EQ(layers[5].other, -1);
  EXPECT_THAT(layers[4].output_shape, ElementsAre(3));
}

TEST(ModelGraph_Residual, WithoutShortcut_AddsItsInput) {
  ASSERT_OK_AND_ASSIGN(ModelGraph graph,
                       Build("input_shape: [4] layers {"
                             " layers { residual { body { residual {"
                             "   body { dense { units: 4 } } } } } }"
                             " layers { dense { units: 2 } } }"));
  EXPECT_THAT(LayerNames(graph),
              ElementsAre("fc1", "residual1", "residual2", "fc2"));
  EXPECT_EQ(graph.layers()[1].input, 1);
  EXPECT_EQ(graph.layers()[1].other, 0);
  EXPECT_EQ(graph.layers()[2].input, 2);
  EXPECT_EQ(graph.layers()[2].other, 0);
}

// A residual within a residual, `depth` times.
std::string Nested(int depth) {
  std::string text = "dense { units: 2 }";
  for (int i = 0; i < depth; ++i) text = "residual { body { " + text + " } }";
  return "input_shape: [2] layers { layers { " + text + " } }";
}

TEST(ModelGraph_Residual, NestedDeeply_IsBounded) {
  EXPECT_OK(Build(Nested(ModelGraph::kMaxResidualDepth)));
  EXPECT_THAT(Build(Nested(ModelGraph::kMaxResidualDepth + 1)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("at most 8 residuals within each other")));
}

TEST(ModelGraph_Residual, ManyLayersWrittenOut_AreBounded) {
  // Five layers of the list, each of 201 or more.
  std::string body;
  for (int i = 0; i < 200; ++i) body += " body { activation: RELU }";
  std::string text = "input_shape: [2] layers {";
  for (int i = 0; i < 5; ++i) text += " layers { residual {" + body + " } }";
  text += " layers { dense { units: 1 } } }";
  EXPECT_THAT(Build(text), StatusIs(absl::StatusCode::kInvalidArgument,
                                    HasSubstr("at most 1000 layers in all")));
}

TEST(ModelGraph_Sequence, Embedding_SharesItsWeightWithTheUnembedding) {
  ASSERT_OK_AND_ASSIGN(
      ModelGraph graph,
      Build("input_shape: [6] layers {"
            " layers { embedding { vocabulary: 11 width: 4 } }"
            " layers { layer_norm {} } layers { unembedding {} } }"));
  EXPECT_THAT(TensorNames(graph),
              ElementsAre("embedding1.weight", "embedding1.positions",
                          "norm1.weight", "norm1.bias"));
  EXPECT_EQ(graph.layers()[2].weight, 0);
  EXPECT_EQ(graph.vocabulary(), 11);
  EXPECT_EQ(graph.output_size(), 11);
  EXPECT_EQ(graph.output_positions(), 6);
  EXPECT_EQ(graph.input_size(), 6);
}

TEST(ModelGraph_BatchNorm, Moments_AreBuffers) {
  ASSERT_OK_AND_ASSIGN(
      ModelGraph graph,
      Build("input_shape: [4] layers { layers { dense { units: 3 } }"
            " layers { batch_norm {} } }"));
  EXPECT_THAT(TensorNames(graph),
              ElementsAre("fc1.weight", "fc1.bias", "batch_norm1.weight",
                          "batch_norm1.bias", "batch_norm1.running_mean",
                          "batch_norm1.running_var"));
  for (size_t t = 0; t < 6; ++t) EXPECT_EQ(graph.is_buffer(t), t >= 4) << t;
  const std::vector<float> values = Initial(graph, 1);
  const absl::Span<const float> span(values);
  EXPECT_THAT(span.subspan(15, 3), Each(1.0f));
  EXPECT_THAT(span.subspan(18, 6), Each(0.0f));
  EXPECT_THAT(span.subspan(24, 3), Each(1.0f));
  EXPECT_EQ(graph.vocabulary(), 0);
  EXPECT_EQ(graph.output_positions(), 1);
}

TEST(ModelGraph_SqueezeExcite, Tensors_AreNamedAsInTorchvision) {
  ASSERT_OK_AND_ASSIGN(ModelGraph graph,
                       Build("input_shape: [4, 2, 2] layers {"
                             " layers { squeeze_excite { hidden: 2 } }"
                             " layers { global_average_pool {} } }"));
  EXPECT_THAT(
      TensorNames(graph),
      ElementsAre("squeeze_excite1.fc1.weight", "squeeze_excite1.fc1.bias",
                  "squeeze_excite1.fc2.weight", "squeeze_excite1.fc2.bias"));
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
        BadModel{"EmptyBody",
                 "input_shape: [2] layers { layers { residual {} } }",
                 "layer 1 (residual): body: expected at least one layer"},
        BadModel{"ResidualShapes",
                 "input_shape: [2] layers { layers { residual {"
                 " body { dense { units: 3 } } } } }",
                 "to end in one shape, found [3] and [2]"},
        BadModel{"LayerInABody",
                 "input_shape: [2] layers { layers { residual {"
                 " body { dense { units: 2 } } body { dense {} } } } }",
                 "layer 1, body 2 (dense): units"},
        BadModel{"LayerInAShortcut",
                 "input_shape: [2] layers { layers { residual {"
                 " body { dense { units: 2 } } shortcut {} } } }",
                 "layer 1, shortcut 1 (no kind): expected one of"},
        BadModel{"EmbeddingOfValues",
                 "input_shape: [2] layers { layers { activation: RELU }"
                 " layers { embedding { vocabulary: 2 width: 2 } } }",
                 "layer 2 (embedding): expected the model's input"},
        BadModel{"TwoEmbeddings",
                 "input_shape: [2] layers { layers { residual {"
                 " body { embedding { vocabulary: 2 width: 2 } }"
                 " shortcut { embedding { vocabulary: 2 width: 2 } } } } }",
                 "shortcut 1 (embedding): expected one in a model"},
        BadModel{"UnembeddingOfNothing",
                 "input_shape: [2] layers { layers { unembedding {} } }",
                 "layer 1 (unembedding): expected an embedding before it"},
        BadModel{"UnembeddingWidth",
                 "input_shape: [2] layers {"
                 " layers { embedding { vocabulary: 2 width: 2 } }"
                 " layers { dense { units: 3 } } layers { unembedding {} } }",
                 "[positions, 2] as the embedding makes it, found [2, 3]"},
        BadModel{"TwoUnembeddings",
                 "input_shape: [2] layers {"
                 " layers { embedding { vocabulary: 2 width: 2 } }"
                 " layers { unembedding {} } layers { unembedding {} } }",
                 "layer 3 (unembedding): expected one in a model"},
        BadModel{"HugeLogits",
                 "input_shape: [1000000] layers {"
                 " layers { embedding { vocabulary: 2000000 width: 2 } }"
                 " layers { unembedding {} } }",
                 "layer 2 (unembedding): shape [1000000, 2000000]: expected"},
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

// Deviation of values [offset, offset + count), whose mean is 0.
double Deviation(const std::vector<float>& values, size_t offset,
                 size_t count) {
  double squares = 0;
  for (size_t i = offset; i < offset + count; ++i) {
    squares += double{values[i]} * values[i];
  }
  return std::sqrt(squares / count);
}

TEST(ModelGraph_InitializeParameters, Gpt_StartsAsItsAuthorsSay) {
  ASSERT_OK_AND_ASSIGN(ModelGraph graph,
                       Build("input_shape: [32] gpt { vocabulary: 100"
                             " layers: 2 heads: 2 width: 64 }"));
  const std::vector<float> values = Initial(graph, 5);
  const auto deviation = [&](const std::string& name) {
    const auto& tensors = graph.layout().tensors();
    for (size_t t = 0; t < tensors.size(); ++t) {
      if (tensors[t].name != name) continue;
      return Deviation(values, graph.layout().offset_bytes(t) / sizeof(float),
                       graph.layout().element_count(t));
    }
    ADD_FAILURE() << name;
    return 0.0;
  };
  // Of n values, the deviation's own deviation is 1 / sqrt(2 n) of it: with
  // 2,048 or more, five of them are 8 %.
  for (const char* name : {"embedding1.weight", "embedding1.positions",
                           "fc1.weight", "fc3.weight", "fc5.weight"}) {
    EXPECT_NEAR(deviation(name), 0.02, 0.0016) << name;
  }
  // Two residuals in each of two blocks.
  for (const char* name :
       {"fc2.weight", "fc4.weight", "fc6.weight", "fc8.weight"}) {
    EXPECT_NEAR(deviation(name), 0.01, 0.0008) << name;
  }
  EXPECT_EQ(deviation("fc1.bias"), 0);
  EXPECT_EQ(deviation("norm5.weight"), 1);
}

// What a published job started from must not change under its feet: values of
// models as they were before there were sequences.
TEST(ModelGraph_InitializeParameters, PublishedModels_KeepTheirValues) {
  struct Known {
    const char* text;
    uint32_t hash;
  };
  for (const Known& known :
       {Known{"input_shape: [1, 8, 8] cnn { classes: 4 kernel: 3 dense: 6 }",
              0xf6b04145},
        Known{"input_shape: [7] mlp { hidden: 5 classes: 3 }", 0x578f5c95},
        Known{"input_shape: [2, 6, 6] layers {"
              " layers { conv2d { channels: 4 kernel: 3 groups: 2 } }"
              " layers { group_norm { groups: 2 } } layers { activation: GELU }"
              " layers { flatten {} } layers { layer_norm {} }"
              " layers { dense { units: 3 } } }",
              0xfd967f69}}) {
    ASSERT_OK_AND_ASSIGN(ModelGraph graph, Build(known.text));
    uint32_t hash = 2166136261u;  // FNV-1a over the values' bits
    for (float value : Initial(graph, 7)) {
      hash = (hash ^ absl::bit_cast<uint32_t>(value)) * 16777619u;
    }
    EXPECT_EQ(hash, known.hash) << known.text;
  }
}

}  // namespace
}  // namespace koinon::kernels
