#include "kernels/test_models.h"

#include <google/protobuf/text_format.h>

#include "base/check.h"
#include "base/random.h"

namespace koinon::kernels {
namespace {

constexpr auto kSquaredError = v1::TrainingSpec::MEAN_SQUARED_ERROR;

std::string Layers(const std::string& input,
                   const std::vector<std::string>& layers) {
  std::string text = "input_shape: [" + input + "] layers {";
  for (const std::string& layer : layers) text += " layers { " + layer + " }";
  return text + " }";
}

// An image model: a convolution in front, so that the layer under test passes a
// gradient on, and a dense layer behind.
std::string ImageModel(const std::vector<std::string>& middle) {
  std::vector<std::string> layers = {"conv2d { channels: 4 kernel: 1 }"};
  layers.insert(layers.end(), middle.begin(), middle.end());
  layers.push_back("flatten {}");
  layers.push_back("dense { units: 3 }");
  return Layers("2, 7, 6", layers);
}

std::string VectorModel(const std::vector<std::string>& middle) {
  std::vector<std::string> layers = {"dense { units: 6 }"};
  layers.insert(layers.end(), middle.begin(), middle.end());
  layers.push_back("dense { units: 3 }");
  return Layers("5", layers);
}

void AddDense(std::vector<NamedModel>* models) {
  const auto add = [&](const char* name, const std::string& text) {
    models->push_back({name, ParseGraph(text)});
  };
  add("LogisticRegression",
      "input_shape: 5 logistic_regression { classes: 4 }");
  add("Mlp", "input_shape: [1, 3, 2] mlp { hidden: [7, 6] classes: 4 }");
  add("MlpWide", "input_shape: 50 mlp { hidden: [40, 33] classes: 17 }");
  add("DenseNoBias",
      VectorModel({"activation: TANH", "dense { units: 5 no_bias: true }"}));
  for (const char* kind :
       {"RELU", "GELU", "TANH", "SIGMOID", "HARD_SWISH", "HARD_SIGMOID"}) {
    const std::string activation = std::string("activation: ") + kind;
    add((std::string("Dense") + kind).c_str(), VectorModel({activation}));
    add((std::string("Conv") + kind).c_str(), ImageModel({activation}));
    // Not fused: behind something that is no product.
    add((std::string("Norm") + kind).c_str(),
        VectorModel({"layer_norm {}", activation}));
  }
  add("TwoActivations", VectorModel({"activation: TANH", "activation: GELU",
                                     "activation: SIGMOID"}));
}

void AddConvolutions(std::vector<NamedModel>* models) {
  const auto add = [&](const char* name, const std::string& conv) {
    models->push_back({name, ParseGraph(ImageModel({conv}))});
  };
  add("ConvPlain", "conv2d { channels: 5 kernel: 3 }");
  add("ConvPadded", "conv2d { channels: 5 kernel: 3 padding: 2 }");
  add("ConvStrided", "conv2d { channels: 5 kernel: 3 stride: 2 padding: 1 }");
  add("ConvGrouped", "conv2d { channels: 6 kernel: 3 groups: 2 }");
  add("ConvDepthwise", "conv2d { channels: 4 kernel: 3 padding: 1 groups: 4 }");
  add("ConvNoBias", "conv2d { channels: 5 kernel: 2 no_bias: true }");
  add("ConvWholeImage", "conv2d { channels: 5 kernel: 6 }");
  models->push_back(
      {"ConvWide",
       ParseGraph(Layers(
           "16, 6, 6",
           {"conv2d { channels: 32 kernel: 3 padding: 1 }", "activation: RELU",
            "conv2d { channels: 32 kernel: 3 padding: 1"
            " groups: 2 }",
            "max_pool { kernel: 2 }", "flatten {}", "dense { units: 5 }"}))});
}

void AddPools(std::vector<NamedModel>* models) {
  for (const std::string kind : {"max_pool", "average_pool"}) {
    const std::string prefix = kind == "max_pool" ? "Max" : "Average";
    const auto add = [&](const char* name, const std::string& fields) {
      models->push_back({prefix + name, ParseGraph(ImageModel(
                                            {kind + " { " + fields + " }"}))});
    };
    add("Pool", "kernel: 2");
    add("PoolOverlapping", "kernel: 3 stride: 2 padding: 1");
    add("PoolSparse", "kernel: 2 stride: 3");
    add("PoolAll", "kernel: 6");
  }
}

void AddOthers(std::vector<NamedModel>* models) {
  const auto add = [&](const char* name, const std::string& text) {
    models->push_back({name, ParseGraph(text)});
  };
  add("GroupNorm", ImageModel({"group_norm { groups: 2 }"}));
  add("GroupNormOne", ImageModel({"group_norm { groups: 1 epsilon: 0.1 }"}));
  add("GroupNormEach", ImageModel({"group_norm { groups: 4 }"}));
  add("GroupNormVector", VectorModel({"group_norm { groups: 2 }"}));
  add("LayerNorm", VectorModel({"layer_norm {}"}));
  add("LayerNormImage", ImageModel({"layer_norm { epsilon: 0.01 }"}));
  add("NormFirst", Layers("5", {"layer_norm {}", "dense { units: 3 }"}));
  add("NormOnInput", Layers("4, 3, 3", {"group_norm { groups: 2 }",
                                        "flatten {}", "dense { units: 3 }"}));
  add("DropoutVector", VectorModel({"dropout { rate: 0.4 }"}));
  add("DropoutImage",
      ImageModel({"activation: SIGMOID", "dropout { rate: 0.3 }"}));
  add("DropoutFirst",
      Layers("5", {"dropout { rate: 0.2 }", "dense { units: 3 }"}));
  add("DropoutLast",
      VectorModel({"dense { units: 3 }", "dropout { rate: 0.2 }"}));
  add("EndsFlat",
      Layers("2, 4, 4", {"conv2d { channels: 2 kernel: 3 }", "flatten {}"}));
  add("StartsWithoutParameters",
      Layers("2, 6, 6", {"average_pool { kernel: 2 }", "activation: TANH",
                         "flatten {}", "flatten {}", "dense { units: 3 }"}));
  add("Cnn",
      "input_shape: [1, 8, 8] cnn { classes: 5 channels1: 3 channels2: 4"
      " kernel: 3 dense: 6 }");
  add("MixedNet",
      ImageModel({"group_norm { groups: 2 }", "activation: RELU",
                  "conv2d { channels: 8 kernel: 3 padding: 1 groups: 2 }",
                  "max_pool { kernel: 2 }", "activation: GELU",
                  "dropout { rate: 0.1 }", "average_pool { kernel: 2 }"}));
  models->push_back({"Regression",
                     ParseGraph("input_shape: 5 mlp { hidden: 6 classes: 2 }"),
                     kSquaredError});
  models->push_back(
      {"RegressionOne",
       ParseGraph("input_shape: 5 logistic_regression { classes: 1 }"),
       kSquaredError});
}

void AddImageLayers(std::vector<NamedModel>* models) {
  const auto add = [&](const char* name, const std::string& text) {
    models->push_back({name, ParseGraph(text)});
  };
  add("BatchNorm", ImageModel({"batch_norm {}"}));
  add("BatchNormVector", VectorModel({"batch_norm { epsilon: 0.1 }"}));
  add("BatchNormFirst",
      Layers("4, 3, 3", {"batch_norm { momentum: 0.3 }", "flatten {}",
                         "dense { units: 3 }"}));
  add("BatchNormWide",
      Layers("3, 5, 5",
             {"conv2d { channels: 24 kernel: 3 padding: 1 no_bias: true }",
              "batch_norm {}", "activation: HARD_SWISH",
              "conv2d { channels: 24 kernel: 3 padding: 1 groups: 24 }",
              "batch_norm {}", "activation: RELU", "flatten {}",
              "dense { units: 3 }"}));
  add("GlobalAveragePool",
      Layers("2, 5, 4", {"conv2d { channels: 19 kernel: 3 }",
                         "global_average_pool {}", "dense { units: 3 }"}));
  add("GlobalAveragePoolFirst",
      Layers("5, 3, 2", {"global_average_pool {}", "dense { units: 3 }"}));
  add("SqueezeExcite", ImageModel({"squeeze_excite { hidden: 3 }"}));
  add("SqueezeExciteFirst", Layers("5, 3, 2", {"squeeze_excite { hidden: 2 }",
                                               "global_average_pool {}"}));
  add("SqueezeExciteWide",
      Layers("3, 5, 5",
             {"conv2d { channels: 24 kernel: 3 padding: 1 }",
              "activation: HARD_SWISH", "squeeze_excite { hidden: 8 }",
              "conv2d { channels: 8 kernel: 1 }", "global_average_pool {}",
              "dense { units: 3 }"}));
}

void AddResiduals(std::vector<NamedModel>* models) {
  const auto add = [&](const char* name, const std::string& text) {
    models->push_back({name, ParseGraph(text)});
  };
  add("Residual", VectorModel({"residual { body { dense { units: 6 } } }"}));
  add("ResidualOfInput",
      Layers("5", {"residual { body { dense { units: 5 } } }",
                   "dense { units: 3 }"}));
  add("ResidualFirstWithoutParameters",
      Layers("5",
             {"residual { body { activation: TANH } }", "dense { units: 3 }"}));
  add("ResidualLast",
      Layers("5", {"dense { units: 3 }",
                   "residual { body { dense { units: 3 } } }"}));
  add("ResidualShortcut",
      VectorModel({"residual { body { dense { units: 4 } }"
                   " body { activation: GELU }"
                   " shortcut { dense { units: 4 no_bias: true } } }"}));
  // Both sides write to what they are given on the way back.
  add("ResidualActivations",
      VectorModel({"residual { body { dense { units: 6 } }"
                   " body { activation: TANH } shortcut { activation: SIGMOID }"
                   " }",
                   "activation: RELU"}));
  add("ResidualSameValueTwice",
      VectorModel({"residual { body { activation: GELU }"
                   " shortcut { activation: TANH } }"}));
  add("ResidualNested",
      VectorModel({"residual { body { layer_norm {} } body { residual {"
                   " body { dense { units: 6 } } body { activation: TANH } } }"
                   " body { dense { units: 6 } } }",
                   "residual { body { layer_norm {} } }"}));
  add("ResidualDropout", VectorModel({"residual { body { dense { units: 6 } }"
                                      " body { dropout { rate: 0.3 } } }"}));
  add("ResidualFlatten",
      Layers("2, 3, 3", {"conv2d { channels: 3 kernel: 1 }",
                         "residual { body { flatten {} }"
                         " shortcut { flatten {} }"
                         " shortcut { dense { units: 27 } } }",
                         "dense { units: 3 }"}));
  add("ResidualImage",
      ImageModel({"residual { body { conv2d { channels: 4 kernel: 3 padding: 1"
                  " } } body { group_norm { groups: 2 } } }",
                  "activation: RELU"}));
  add("ResidualImageShortcut",
      ImageModel({"residual { body { conv2d { channels: 20 kernel: 3 padding: 1"
                  " stride: 2 } } body { group_norm { groups: 2 } }"
                  " shortcut { conv2d { channels: 20 kernel: 1 stride: 2 } } }",
                  "activation: RELU", "max_pool { kernel: 2 }"}));
  // A group norm, the sum and the ReLU behind it in one pass: channels enough
  // for our own kernel, images of odd extents.
  const std::string wide =
      "conv2d { channels: 16 kernel: 3 padding: 1 no_bias: true }";
  const std::string norm = "group_norm { groups: 4 }";
  const std::string side = "body { " + wide + " } body { " + norm +
                           " } body { activation: RELU } body { " + wide +
                           " } body { " + norm + " }";
  const auto wide_model = [&](const std::vector<std::string>& middle) {
    std::vector<std::string> layers = {wide, norm, "activation: RELU"};
    layers.insert(layers.end(), middle.begin(), middle.end());
    layers.insert(layers.end(),
                  {"global_average_pool {}", "dense { units: 3 }"});
    return Layers("3, 7, 5", layers);
  };
  const std::string block = "residual { " + side + " }";
  add("ResidualNorm", wide_model({block, "activation: RELU"}));
  add("ResidualNormTwice",
      wide_model({block, "activation: RELU", block, "activation: RELU"}));
  add("ResidualNormNoRelu", wide_model({block, block}));
  add("ResidualNormThenTanh", wide_model({block, "activation: TANH"}));
  add("ResidualNormPooled",
      wide_model({block, "activation: RELU", "max_pool { kernel: 2 }"}));
  add("ResidualNormStrided",
      wide_model(
          {"residual { body { conv2d { channels: 32 kernel: 3 padding: 1"
           " stride: 2 } } body { " +
               norm +
               " }"
               " shortcut { conv2d { channels: 32 kernel: 1 stride: 2 } }"
               " shortcut { " +
               norm + " } }",
           "activation: RELU"}));
  // Only the shortcut ends in a norm.
  add("ResidualNormOfShortcut",
      wide_model({"residual { body { " + wide + " } shortcut { " + wide +
                      " } shortcut { " + norm + " } }",
                  "activation: RELU"}));
  add("ResidualNormOfItself",
      wide_model({"residual { body { " + norm + " } }", "activation: RELU"}));
  // What is added needs no gradient, or comes in another format.
  add("ResidualNormOfInput",
      Layers("16, 3, 3",
             {"residual { body { " + wide + " } body { " + norm + " } }",
              "activation: RELU", "flatten {}", "dense { units: 3 }"}));
  // Three readers of one value; a sum read by a sum.
  add("ResidualNormNested", wide_model({"residual { body { " + block +
                                            " } body { activation: RELU }"
                                            " body { " +
                                            wide + " } body { " + norm + " } }",
                                        "activation: RELU"}));
  add("ResidualNormThenDropout",
      wide_model({"residual { body { " + wide + " } body { " + norm +
                      " } body { dropout { rate: 0.2 } } }",
                  "activation: RELU"}));
  add("ResNet", "input_shape: [2, 4, 4] resnet { classes: 3 depth: 8 }");
  add("ResNetBatchNorm",
      "input_shape: [2, 5, 5] resnet { classes: 3 depth: 8 norm: BATCH_NORM }");
}

void AddSequences(std::vector<NamedModel>* models) {
  const auto add = [&](const char* name, const std::string& text) {
    models->push_back({name, ParseGraph(text)});
  };
  const std::string embedding = "embedding { vocabulary: 9 width: 6 }";
  add("EmbeddingFlat",
      Layers("4", {embedding, "flatten {}", "dense { units: 3 }"}));
  add("EmbeddingWithoutPositions",
      Layers("4", {"embedding { vocabulary: 9 width: 6 no_positions: true }",
                   "dense { units: 3 }"}));
  add("SequenceDense",
      Layers("4", {embedding, "dense { units: 5 }", "activation: GELU",
                   "dense { units: 3 no_bias: true }"}));
  add("SequenceNorm",
      Layers("4", {embedding, "layer_norm {}", "dropout { rate: 0.2 }",
                   "dense { units: 3 }"}));
  add("SequenceNormWide",
      Layers("5", {"embedding { vocabulary: 9 width: 50 }",
                   "layer_norm { epsilon: 0.01 }", "dense { units: 3 }"}));
  add("Unembedding", Layers("4", {embedding, "unembedding {}"}));
  add("UnembeddingBehindDense",
      Layers("4", {embedding, "dense { units: 6 }", "activation: TANH",
                   "unembedding {}"}));
  // Deviations of a fiftieth leave attention next to uniform: the dense layers
  // and DrawParameters' noise make it less so.
  add("Attention",
      Layers("5", {embedding, "layer_norm {}", "dense { units: 12 }",
                   "causal_attention { heads: 2 }", "dense { units: 3 }"}));
  add("AttentionOneHead",
      Layers("5", {embedding, "layer_norm {}", "dense { units: 15 }",
                   "causal_attention { heads: 1 }", "dense { units: 3 }"}));
  add("AttentionOnePosition",
      Layers("1", {embedding, "dense { units: 12 }",
                   "causal_attention { heads: 4 }", "dense { units: 3 }"}));
  add("AttentionToClasses",
      Layers("5", {embedding, "causal_attention { heads: 2 }", "flatten {}",
                   "dense { units: 3 }"}));
  add("Gpt",
      "input_shape: 6 gpt { vocabulary: 11 layers: 2 heads: 2 width: 8 }");
  add("GptDropout",
      "input_shape: 6 gpt { vocabulary: 11 layers: 1 heads: 2 width: 8"
      " dropout: 0.2 }");
}

}  // namespace

std::vector<NamedModel> TestModels() {
  std::vector<NamedModel> models;
  AddDense(&models);
  AddConvolutions(&models);
  AddPools(&models);
  AddOthers(&models);
  AddImageLayers(&models);
  AddResiduals(&models);
  AddSequences(&models);
  return models;
}

ModelGraph ParseGraph(const std::string& text) {
  v1::ModelSpec spec;
  KOINON_CHECK(google::protobuf::TextFormat::ParseFromString(text, &spec));
  absl::StatusOr<ModelGraph> graph = ModelGraph::Build(spec);
  KOINON_CHECK(graph.ok());
  return *std::move(graph);
}

Examples::Examples(const ModelGraph& graph, size_t count, uint64_t seed)
    : input_size_(graph.input_size()),
      output_size_(graph.output_size()),
      positions_(graph.output_positions()) {
  Random random(seed);
  for (size_t i = 0; i < count * input_size_; ++i) {
    inputs_.push_back(static_cast<float>(
        graph.vocabulary() > 0
            ? static_cast<double>(random.NextBelow(graph.vocabulary()))
            : random.NextNormal()));
  }
  for (size_t i = 0; i < count * positions_; ++i) {
    labels_.push_back(static_cast<int32_t>(random.NextBelow(output_size_)));
  }
  for (size_t i = 0; i < count * output_size_; ++i) {
    targets_.push_back(static_cast<float>(random.NextNormal()));
  }
}

Batch Examples::First(size_t count, v1::TrainingSpec::Loss loss) const {
  Batch batch;
  batch.size = count;
  batch.inputs = absl::MakeConstSpan(inputs_).subspan(0, count * input_size_);
  if (loss == kSquaredError) {
    batch.targets =
        absl::MakeConstSpan(targets_).subspan(0, count * output_size_);
  } else {
    batch.labels = absl::MakeConstSpan(labels_).subspan(0, count * positions_);
  }
  return batch;
}

void DrawParameters(const ModelGraph& graph, uint64_t seed,
                    absl::Span<float> parameters) {
  graph.InitializeParameters(seed, 0, parameters);
  const uint64_t noise = DeriveSeed(seed, "noise");
  for (size_t i = 0; i < parameters.size(); ++i) {
    parameters[i] += static_cast<float>(0.2 * UniformAt(noise, i) - 0.1);
  }
}

}  // namespace koinon::kernels
