// oneDNN against the reference, for every layer, over shapes and seeds.

#include "kernels/onednn/onednn_network.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "base/random.h"
#include "base/status_matchers.h"
#include "kernels/bfloat16.h"
#include "kernels/reference/reference_network.h"
#include "kernels/test_models.h"

namespace koinon::kernels {
namespace {

using ::testing::HasSubstr;

// How far single precision may be from the reference, relative to the largest
// value of a tensor. A sum of K products of like size in any order is off by
// about eps * sqrt(K) of its terms (rounding errors as a random walk: Higham
// and Mary 2019), each layer adds its share on the way there and on the way
// back, and oneDNN's tanh and exponential are off by a few eps. K is the
// longest sum in the model: the inputs of an output, or the outputs that share
// a weight.
double Tolerance(const ModelGraph& graph, size_t batch) {
  double longest = 1;
  for (const ModelGraph::Layer& layer : graph.layers()) {
    double inputs = 1, outputs = batch;
    for (int64_t extent : layer.input_shape) inputs *= extent;
    for (int64_t extent : layer.output_shape) outputs *= extent;
    if (layer.output_shape.size() == 3) outputs /= layer.output_shape[0];
    longest = std::max({longest, inputs, outputs});
  }
  const double eps = std::numeric_limits<float>::epsilon();
  return eps * std::sqrt(longest) * (1 + graph.layers().size());
}

// |found - wanted| <= tolerance * max |wanted|, for each value.
void ExpectNear(absl::Span<const float> found, absl::Span<const float> wanted,
                double tolerance, const std::string& what) {
  ASSERT_EQ(found.size(), wanted.size()) << what;
  double largest = 0;
  for (float value : wanted)
    largest = std::max(largest, std::abs(double{value}));
  for (size_t i = 0; i < found.size(); ++i) {
    // A tensor whose true values cancel to nothing (a bias before a norm) has
    // no scale of its own.
    ASSERT_NEAR(found[i], wanted[i], tolerance * std::max(largest, 0.05))
        << what << " at " << i;
  }
}

struct Run {
  int threads = 1;
  size_t batch_size = 8;
  size_t examples = 8;
  uint64_t seed = 1;
};

void ExpectLikeReference(const NamedModel& model, const Run& run) {
  SCOPED_TRACE(absl::StrFormat("%s: threads %d, batch %d of %d, seed %d",
                               model.name, run.threads, run.examples,
                               run.batch_size, run.seed));
  Network::Options options;
  options.batch_size = run.batch_size;
  options.threads = run.threads;
  options.loss = model.loss;
  ASSERT_OK_AND_ASSIGN(auto fast, NewOneDnnNetwork(model.graph, options));
  ASSERT_OK_AND_ASSIGN(auto truth, NewReferenceNetwork(model.graph, options));
  DrawParameters(model.graph, run.seed, fast->parameters());
  DrawParameters(model.graph, run.seed, truth->parameters());
  const Examples examples(model.graph, run.examples, run.seed + 100);
  const Batch batch = examples.First(run.examples, model.loss);
  const double tolerance = Tolerance(model.graph, run.examples);

  ASSERT_OK_AND_ASSIGN(BatchMetrics found, fast->Evaluate(batch));
  ASSERT_OK_AND_ASSIGN(BatchMetrics wanted, truth->Evaluate(batch));
  ExpectNear(fast->outputs(), truth->outputs(), tolerance, "evaluation");
  EXPECT_NEAR(found.loss, wanted.loss, tolerance * std::max(1.0, wanted.loss));

  ASSERT_OK_AND_ASSIGN(found, fast->ForwardBackward(batch, run.seed));
  ASSERT_OK_AND_ASSIGN(wanted, truth->ForwardBackward(batch, run.seed));
  ExpectNear(fast->outputs(), truth->outputs(), tolerance, "outputs");
  EXPECT_NEAR(found.loss, wanted.loss, tolerance * std::max(1.0, wanted.loss));
  const ModelLayout& layout = model.graph.layout();
  for (size_t t = 0; t < layout.tensors().size(); ++t) {
    const size_t first = layout.offset_bytes(t) / sizeof(float);
    const size_t count = layout.element_count(t);
    ExpectNear(fast->gradients().subspan(first, count),
               truth->gradients().subspan(first, count), tolerance,
               layout.tensors()[t].name);
  }
}

class OneDnnModel : public testing::TestWithParam<NamedModel> {};

TEST_P(OneDnnModel, ForwardAndBackward_MatchTheReference) {
  for (uint64_t seed : {1, 2, 3}) {
    ExpectLikeReference(GetParam(), {.threads = 1, .seed = seed});
  }
  ExpectLikeReference(GetParam(), {.threads = 2});
  ExpectLikeReference(GetParam(), {.batch_size = 1, .examples = 1});
  ExpectLikeReference(GetParam(), {.batch_size = 8, .examples = 5});
}

// Networks that do not train compute more layers together.
TEST_P(OneDnnModel, ForwardOnly_MatchesTheReference) {
  const ModelGraph& graph = GetParam().graph;
  for (int threads : {1, 2}) {
    Network::Options options;
    options.batch_size = 8;
    options.threads = threads;
    options.loss = GetParam().loss;
    options.training = false;
    ASSERT_OK_AND_ASSIGN(auto fast, NewOneDnnNetwork(graph, options));
    ASSERT_OK_AND_ASSIGN(auto truth, NewReferenceNetwork(graph, options));
    const Examples examples(graph, 8, 101);
    const Batch batch = examples.First(8, GetParam().loss);
    // Twice: what is made of the parameters follows them.
    for (uint64_t seed : {1, 2}) {
      DrawParameters(graph, seed, fast->parameters());
      DrawParameters(graph, seed, truth->parameters());
      ASSERT_OK_AND_ASSIGN(BatchMetrics found, fast->Evaluate(batch));
      ASSERT_OK_AND_ASSIGN(BatchMetrics wanted, truth->Evaluate(batch));
      const double tolerance = Tolerance(graph, 8);
      ExpectNear(fast->outputs(), truth->outputs(), tolerance, "outputs");
      EXPECT_NEAR(found.loss, wanted.loss,
                  tolerance * std::max(1.0, wanted.loss));
    }
  }
}

// |found - wanted| / |wanted|, in the Euclidean norm.
double RelativeDistance(absl::Span<const float> found,
                        absl::Span<const float> wanted) {
  double distance = 0, norm = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    const double difference = double{found[i]} - wanted[i];
    distance += difference * difference;
    norm += double{wanted[i]} * wanted[i];
  }
  return std::sqrt(distance / norm);
}

// Factors of products are rounded to 8 bits, half a unit of 2^-8 off at most,
// and so are some values between layers. Each layer adds its share on the way
// there and on the way back. Where that carries a value over a corner (of a
// rectifier, or from one maximum of a pool to another), its gradient comes or
// goes as a whole; so few values make these models that one is seen, and so
// gradients are given three times as much.
TEST_P(OneDnnModel, Bfloat16_StaysNearTheReference) {
  if (!CheckBfloat16().ok()) GTEST_SKIP() << CheckBfloat16();
  const ModelGraph& graph = GetParam().graph;
  const double tolerance = 0x1p-9 * (2 + graph.layers().size());
  for (int threads : {1, 2}) {
    Network::Options options;
    options.batch_size = 8;
    options.threads = threads;
    options.loss = GetParam().loss;
    ASSERT_OK_AND_ASSIGN(auto truth, NewReferenceNetwork(graph, options));
    options.bfloat16 = true;
    ASSERT_OK_AND_ASSIGN(auto fast, NewOneDnnNetwork(graph, options));
    DrawParameters(graph, 1, fast->parameters());
    DrawParameters(graph, 1, truth->parameters());
    const Examples examples(graph, 8, 101);
    const Batch batch = examples.First(8, GetParam().loss);
    ASSERT_OK_AND_ASSIGN(BatchMetrics found, fast->ForwardBackward(batch, 1));
    ASSERT_OK_AND_ASSIGN(BatchMetrics wanted, truth->ForwardBackward(batch, 1));
    EXPECT_NEAR(found.loss, wanted.loss,
                tolerance * std::max(1.0, wanted.loss));
    EXPECT_LE(RelativeDistance(fast->outputs(), truth->outputs()), tolerance);
    EXPECT_LE(RelativeDistance(fast->gradients(), truth->gradients()),
              3 * tolerance);
  }
}

TEST_P(OneDnnModel, SameSeedAndThreads_SameBytes) {
  const ModelGraph& graph = GetParam().graph;
  for (int threads : {1, 2}) {
    Network::Options options;
    options.batch_size = 8;
    options.threads = threads;
    options.loss = GetParam().loss;
    const Examples examples(graph, 8, 1);
    const Batch batch = examples.First(8, GetParam().loss);
    std::vector<float> gradients[2];
    for (auto& values : gradients) {
      ASSERT_OK_AND_ASSIGN(auto network, NewOneDnnNetwork(graph, options));
      DrawParameters(graph, 2, network->parameters());
      ASSERT_OK(network->ForwardBackward(batch, 3));
      values.assign(network->gradients().begin(), network->gradients().end());
    }
    EXPECT_EQ(gradients[0], gradients[1]) << threads << " threads";
  }
}

INSTANTIATE_TEST_SUITE_P(Models, OneDnnModel, testing::ValuesIn(TestModels()),
                         [](const auto& info) { return info.param.name; });

// Convolutions of every shape: oneDNN chooses another kernel for many.
TEST(OneDnnNetwork_Conv2d, RandomShapes_MatchTheReference) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    Random random(seed);
    const int groups = static_cast<int>(1 + random.NextBelow(3));
    const int in = groups * static_cast<int>(1 + random.NextBelow(18));
    const int out = groups * static_cast<int>(1 + random.NextBelow(18));
    const int kernel = static_cast<int>(1 + random.NextBelow(5));
    const int stride = static_cast<int>(1 + random.NextBelow(3));
    const int padding = static_cast<int>(random.NextBelow(kernel));
    const int height = kernel + static_cast<int>(random.NextBelow(9));
    const int width = kernel + static_cast<int>(random.NextBelow(9));
    // The pointwise convolution in front makes the other pass a gradient on.
    NamedModel model{
        absl::StrFormat("%dx%dx%d to %d, kernel %d, stride %d, padding %d, "
                        "groups %d",
                        in, height, width, out, kernel, stride, padding,
                        groups),
        ParseGraph(absl::StrFormat(
            "input_shape: [2, %d, %d] layers {"
            " layers { conv2d { channels: %d kernel: 1 } }"
            " layers { conv2d { channels: %d kernel: %d stride: %d"
            "   padding: %d groups: %d } } layers { activation: TANH }"
            " layers { flatten {} } layers { dense { units: 3 } } }",
            height, width, in, out, kernel, stride, padding, groups))};
    ExpectLikeReference(model, {.threads = 1 + static_cast<int>(seed % 2),
                                .batch_size = 4,
                                .examples = 4,
                                .seed = seed});
  }
}

TEST(OneDnnNetwork_Pool, RandomShapes_MatchTheReference) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Random random(seed + 1000);
    const int channels = static_cast<int>(1 + random.NextBelow(33));
    const int kernel = static_cast<int>(1 + random.NextBelow(4));
    const int stride = static_cast<int>(1 + random.NextBelow(4));
    const int padding = static_cast<int>(random.NextBelow(kernel / 2 + 1));
    const int height = kernel + static_cast<int>(random.NextBelow(9));
    const int width = kernel + static_cast<int>(random.NextBelow(9));
    const char* kind = seed % 2 == 0 ? "max_pool" : "average_pool";
    NamedModel model{
        absl::StrFormat("%s on %dx%dx%d, kernel %d, stride %d, padding %d",
                        kind, channels, height, width, kernel, stride, padding),
        ParseGraph(absl::StrFormat(
            "input_shape: [3, %d, %d] layers {"
            " layers { conv2d { channels: %d kernel: 1 } }"
            " layers { %s { kernel: %d stride: %d padding: %d } }"
            " layers { flatten {} } layers { dense { units: 3 } } }",
            height, width, channels, kind, kernel, stride, padding))};
    ExpectLikeReference(model, {.threads = 1 + static_cast<int>(seed % 2),
                                .batch_size = 4,
                                .examples = 4,
                                .seed = seed});
  }
}

// From the flat ends to the middle: nothing overflows on the way.
TEST(OneDnnNetwork_Activation, ExtremeInputs_MatchTheReference) {
  const std::vector<float> inputs = {0,   1e-30f, -1e-30f, 0.5f, -0.5f,
                                     5,   -5,     20,      -20,  89,
                                     -89, 1e3f,   -1e3f,   1e4f, -1e4f};
  const std::vector<int32_t> labels(inputs.size(), 0);
  Batch batch;
  batch.size = inputs.size();
  batch.inputs = inputs;
  batch.labels = labels;
  for (const char* kind : {"RELU", "GELU", "TANH", "SIGMOID"}) {
    SCOPED_TRACE(kind);
    const ModelGraph graph = ParseGraph(absl::StrFormat(
        "input_shape: 1 layers { layers { dense { units: 1 no_bias: true } }"
        " layers { activation: %s }"
        " layers { dense { units: 2 no_bias: true } } }",
        kind));
    Network::Options options;
    options.batch_size = inputs.size();
    ASSERT_OK_AND_ASSIGN(auto fast, NewOneDnnNetwork(graph, options));
    ASSERT_OK_AND_ASSIGN(auto truth, NewReferenceNetwork(graph, options));
    for (Network* network : {fast.get(), truth.get()}) {
      std::fill(network->parameters().begin(), network->parameters().end(),
                1.0f);
      // So that the loss is flat at no example.
      network->parameters()[2] = 0.999f;
      ASSERT_OK(network->ForwardBackward(batch, 1));
    }
    for (size_t i = 0; i < fast->outputs().size(); ++i) {
      const double wanted = truth->outputs()[i];
      // oneDNN's exponential and tanh are good to a few units of the result,
      // next to zero to a few of one.
      EXPECT_NEAR(fast->outputs()[i], wanted,
                  1e-6 * std::max(1.0, std::abs(wanted)))
          << "at " << inputs[i / 2];
    }
    ExpectNear(fast->gradients(), truth->gradients(), 1e-5, "gradients");
  }
}

TEST(OneDnnNetwork_Cnn, OfTheLiterature_MatchesTheReference) {
  const NamedModel model{"cnn",
                         ParseGraph("input_shape: [1, 14, 14] cnn { classes: 10"
                                    " dense: 64 }")};
  ExpectLikeReference(model, {.batch_size = 4, .examples = 4});
  ExpectLikeReference(model, {.threads = 2, .batch_size = 4, .examples = 3});
}

TEST(OneDnnNetwork_MobileNetV3Small, SmallImages_MatchTheReference) {
  for (const char* norm : {"GROUP_NORM", "BATCH_NORM"}) {
    SCOPED_TRACE(norm);
    const ModelGraph graph = ParseGraph(absl::StrFormat(
        "input_shape: [3, 32, 32] mobilenet_v3_small { classes: 10 norm: %s }",
        norm));
    Network::Options options;
    options.batch_size = 2;
    options.training = false;
    ASSERT_OK_AND_ASSIGN(auto fast, NewOneDnnNetwork(graph, options));
    ASSERT_OK_AND_ASSIGN(auto truth, NewReferenceNetwork(graph, options));
    for (Network* network : {fast.get(), truth.get()}) {
      graph.InitializeParameters(3, 0, network->parameters());
    }
    const Examples examples(graph, 2, 4);
    const Batch batch =
        examples.First(2, v1::TrainingSpec::SOFTMAX_CROSS_ENTROPY);
    ASSERT_OK(fast->Evaluate(batch));
    ASSERT_OK(truth->Evaluate(batch));
    ExpectNear(fast->outputs(), truth->outputs(), Tolerance(graph, 2),
               "outputs");
  }
}

TEST(OneDnnNetwork, BatchThatNoMemoryHolds_IsResourceExhausted) {
  const ModelGraph graph =
      ParseGraph("input_shape: 8 mlp { hidden: 10000000 classes: 2 }");
  Network::Options options;
  options.batch_size = kMaxBatchSize;
  EXPECT_THAT(NewOneDnnNetwork(graph, options),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("a batch of 16777216 examples")));
}

}  // namespace
}  // namespace koinon::kernels
