// The contract of Network, kept by every implementation.

#include "kernels/network.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "base/status_matchers.h"
#include "kernels/onednn/onednn_network.h"
#include "kernels/optimizer.h"
#include "kernels/reference/reference_network.h"
#include "kernels/test_models.h"

namespace koinon::kernels {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr auto kCrossEntropy = v1::TrainingSpec::SOFTMAX_CROSS_ENTROPY;
constexpr auto kSquaredError = v1::TrainingSpec::MEAN_SQUARED_ERROR;

struct Implementation {
  const char* name;
  absl::StatusOr<std::unique_ptr<Network>> (*make)(const ModelGraph&,
                                                   const Network::Options&);
};

class NetworkContract : public testing::TestWithParam<Implementation> {
 protected:
  std::unique_ptr<Network> Make(const ModelGraph& graph,
                                const Network::Options& options) {
    auto network = GetParam().make(graph, options);
    EXPECT_THAT(network, IsOk());
    return *std::move(network);
  }

  static Network::Options Sized(size_t batch_size) {
    Network::Options options;
    options.batch_size = batch_size;
    return options;
  }
};

std::vector<float> Copy(absl::Span<const float> values) {
  return std::vector<float>(values.begin(), values.end());
}

ModelGraph SmallMlp() {
  return ParseGraph("input_shape: 5 mlp { hidden: 8 classes: 4 }");
}

ModelGraph DropoutNet() {
  return ParseGraph(
      "input_shape: 5 layers { layers { dense { units: 40 } }"
      " layers { dropout { rate: 0.5 } } layers { dense { units: 4 } } }");
}

TEST_P(NetworkContract, New_StartsAtZero) {
  const ModelGraph graph = SmallMlp();
  auto network = Make(graph, Sized(2));
  EXPECT_THAT(network->parameters(), SizeIs(graph.layout().total_elements()));
  EXPECT_THAT(network->parameters(), Each(0.0f));
  EXPECT_THAT(network->gradients(), SizeIs(graph.layout().total_elements()));
  EXPECT_THAT(network->outputs(), IsEmpty());
}

TEST_P(NetworkContract, AllZero_CostsTheLogOfTheClasses) {
  const ModelGraph graph = SmallMlp();
  auto network = Make(graph, Sized(2));
  const Examples examples(graph, 2, 1);
  ASSERT_OK_AND_ASSIGN(BatchMetrics metrics,
                       network->Evaluate(examples.First(2, kCrossEntropy)));
  EXPECT_DOUBLE_EQ(metrics.loss, std::log(4.0));
  EXPECT_THAT(network->outputs(), SizeIs(2 * 4));
  EXPECT_THAT(network->outputs(), Each(0.0f));
}

TEST_P(NetworkContract, Step_ChangesGradientsOnly) {
  const ModelGraph graph = SmallMlp();
  auto network = Make(graph, Sized(4));
  const Examples examples(graph, 4, 1);
  DrawParameters(graph, 2, network->parameters());
  const std::vector<float> before = Copy(network->parameters());
  ASSERT_OK(network->ForwardBackward(examples.First(4, kCrossEntropy), 1));
  EXPECT_EQ(Copy(network->parameters()), before);
  const std::vector<float> gradients = Copy(network->gradients());
  EXPECT_NE(gradients, std::vector<float>(gradients.size(), 0.0f));
  // Again: gradients are set, not added to. Evaluation leaves them.
  ASSERT_OK(network->ForwardBackward(examples.First(4, kCrossEntropy), 1));
  ASSERT_OK(network->Evaluate(examples.First(3, kCrossEntropy)));
  EXPECT_EQ(Copy(network->gradients()), gradients);
}

TEST_P(NetworkContract, SameSeed_SameBytes) {
  const ModelGraph graph = DropoutNet();
  const Examples examples(graph, 8, 1);
  std::vector<float> gradients[2];
  double losses[2];
  for (int run = 0; run < 2; ++run) {
    auto network = Make(graph, Sized(8));
    DrawParameters(graph, 2, network->parameters());
    ASSERT_OK_AND_ASSIGN(
        BatchMetrics metrics,
        network->ForwardBackward(examples.First(8, kCrossEntropy), 9));
    losses[run] = metrics.loss;
    gradients[run] = Copy(network->gradients());
  }
  EXPECT_EQ(losses[0], losses[1]);
  EXPECT_EQ(gradients[0], gradients[1]);
}

TEST_P(NetworkContract, OtherStepSeed_DropsOthers) {
  const ModelGraph graph = DropoutNet();
  auto network = Make(graph, Sized(8));
  DrawParameters(graph, 2, network->parameters());
  const Examples examples(graph, 8, 1);
  const Batch batch = examples.First(8, kCrossEntropy);
  ASSERT_OK_AND_ASSIGN(BatchMetrics one, network->ForwardBackward(batch, 1));
  ASSERT_OK_AND_ASSIGN(BatchMetrics two, network->ForwardBackward(batch, 2));
  EXPECT_NE(one.loss, two.loss);
  ASSERT_OK_AND_ASSIGN(BatchMetrics plain, network->Evaluate(batch));
  ASSERT_OK_AND_ASSIGN(BatchMetrics again, network->Evaluate(batch));
  EXPECT_EQ(plain.loss, again.loss);
  EXPECT_NE(plain.loss, one.loss);
}

// A small batch in a large network against a network of just that size. Sums
// may be cut differently: single precision's unit times a few operations.
TEST_P(NetworkContract, SmallBatch_CountsOnlyItsExamples) {
  for (const char* text :
       {"input_shape: 5 mlp { hidden: 8 classes: 4 }",
        "input_shape: [1, 8, 8] cnn { classes: 4 kernel: 3 dense: 6 }"}) {
    const ModelGraph graph = ParseGraph(text);
    const Examples examples(graph, 8, 1);
    auto large = Make(graph, Sized(8));
    auto exact = Make(graph, Sized(3));
    DrawParameters(graph, 2, large->parameters());
    DrawParameters(graph, 2, exact->parameters());
    // A full batch first: nothing of it may stay behind.
    ASSERT_OK(large->ForwardBackward(examples.First(8, kCrossEntropy), 1));
    const Batch batch = examples.First(3, kCrossEntropy);
    ASSERT_OK_AND_ASSIGN(BatchMetrics found, large->ForwardBackward(batch, 1));
    ASSERT_OK_AND_ASSIGN(BatchMetrics wanted, exact->ForwardBackward(batch, 1));
    EXPECT_NEAR(found.loss, wanted.loss, 1e-5);
    EXPECT_EQ(found.correct, wanted.correct);
    EXPECT_THAT(large->outputs(), SizeIs(3 * 4));
    for (size_t i = 0; i < large->gradients().size(); ++i) {
      ASSERT_NEAR(large->gradients()[i], exact->gradients()[i], 1e-5);
    }
  }
}

TEST_P(NetworkContract, ForwardOnly_EvaluatesAlike) {
  const ModelGraph graph = DropoutNet();
  Network::Options options = Sized(8);
  auto trains = Make(graph, options);
  options.training = false;
  auto evaluates = Make(graph, options);
  DrawParameters(graph, 2, trains->parameters());
  DrawParameters(graph, 2, evaluates->parameters());
  const Examples examples(graph, 8, 1);
  const Batch batch = examples.First(8, kCrossEntropy);
  ASSERT_OK_AND_ASSIGN(BatchMetrics one, trains->Evaluate(batch));
  ASSERT_OK_AND_ASSIGN(BatchMetrics two, evaluates->Evaluate(batch));
  EXPECT_NEAR(one.loss, two.loss, 1e-6);
  EXPECT_THAT(evaluates->gradients(), IsEmpty());
  EXPECT_THAT(evaluates->ForwardBackward(batch, 1),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("without `training`")));
}

TEST_P(NetworkContract, ManySteps_LearnTheExamples) {
  const ModelGraph graph = SmallMlp();
  auto network = Make(graph, Sized(16));
  graph.InitializeParameters(1, 0, network->parameters());
  v1::Optimizer spec;
  spec.mutable_adam()->set_learning_rate(0.05);
  ASSERT_OK_AND_ASSIGN(
      auto adam, LocalOptimizer::Create(spec, network->parameters().size()));
  const Examples examples(graph, 16, 1);
  const Batch batch = examples.First(16, kCrossEntropy);
  for (int step = 0; step < 300; ++step) {
    ASSERT_OK(network->ForwardBackward(batch, step));
    adam->Step(1, network->gradients(), network->parameters());
  }
  ASSERT_OK_AND_ASSIGN(BatchMetrics metrics, network->Evaluate(batch));
  EXPECT_EQ(metrics.correct, 16);
  EXPECT_LT(metrics.loss, 0.05);
}

TEST_P(NetworkContract, BadBatch_SaysWhatAndWhich) {
  const ModelGraph graph = SmallMlp();
  auto network = Make(graph, Sized(4));
  const Examples examples(graph, 5, 1);
  const auto refuses = [&](const Batch& batch, const char* message) {
    EXPECT_THAT(
        network->Evaluate(batch),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(message)));
    EXPECT_THAT(
        network->ForwardBackward(batch, 1),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(message)));
  };
  refuses(Batch{}, "expected 1 to 4 examples, found 0");
  refuses(examples.First(5, kCrossEntropy), "expected 1 to 4 examples");
  Batch batch = examples.First(4, kCrossEntropy);
  batch.inputs = batch.inputs.subspan(1);
  refuses(batch, "expected 20 input values, found 19");
  batch = examples.First(4, kCrossEntropy);
  batch.labels = batch.labels.subspan(1);
  refuses(batch, "expected 4 labels, found 3");
  const std::vector<int32_t> high = {0, 1, 4, 2};
  batch.labels = high;
  refuses(batch, "example 2: expected a label from 0 to 3, found 4");
  const std::vector<int32_t> negative = {-1, 0, 0, 0};
  batch.labels = negative;
  refuses(batch, "example 0: expected a label from 0 to 3, found -1");
}

TEST_P(NetworkContract, RegressionWithoutTargets_IsRefused) {
  const ModelGraph graph = SmallMlp();
  Network::Options options = Sized(4);
  options.loss = kSquaredError;
  auto network = Make(graph, options);
  const Examples examples(graph, 4, 1);
  EXPECT_THAT(network->Evaluate(examples.First(4, kCrossEntropy)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("expected 16 target values, found 0")));
  EXPECT_OK(network->Evaluate(examples.First(4, kSquaredError)));
}

TEST_P(NetworkContract, BadOptions_AreNamed) {
  const ModelGraph graph = SmallMlp();
  const auto refuses = [&](const Network::Options& options,
                           const char* message) {
    EXPECT_THAT(
        GetParam().make(graph, options),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(message)));
  };
  refuses(Sized(0), "batch_size: expected 1");
  refuses(Sized(size_t{1} << 60), "batch_size: expected 1");
  Network::Options options;
  options.threads = 0;
  refuses(options, "threads: expected 1");
  options.threads = 1;
  options.loss = static_cast<v1::TrainingSpec::Loss>(99);
  refuses(options, "found 99");
}

ModelGraph SmallGpt() {
  return ParseGraph(
      "input_shape: 6 gpt { vocabulary: 11 layers: 2 heads: 2 width: 8 }");
}

TEST_P(NetworkContract, Sequences_HaveOutputsAtEachPosition) {
  const ModelGraph graph = SmallGpt();
  auto network = Make(graph, Sized(3));
  const Examples examples(graph, 3, 1);
  // All zero: uniform at each position.
  ASSERT_OK_AND_ASSIGN(BatchMetrics metrics,
                       network->Evaluate(examples.First(2, kCrossEntropy)));
  EXPECT_NEAR(metrics.loss, std::log(11.0), 1e-6);
  EXPECT_THAT(network->outputs(), SizeIs(2 * 6 * 11));
  DrawParameters(graph, 2, network->parameters());
  ASSERT_OK(network->ForwardBackward(examples.First(3, kCrossEntropy), 1));
  EXPECT_THAT(network->outputs(), SizeIs(3 * 6 * 11));
}

TEST_P(NetworkContract, LaterTokens_DoNotChangeEarlierOutputs) {
  const ModelGraph graph = SmallGpt();
  auto network = Make(graph, Sized(1));
  DrawParameters(graph, 2, network->parameters());
  std::vector<float> tokens = {1, 2, 3, 4, 5, 6};
  const std::vector<int32_t> labels(6, 0);
  Batch batch;
  batch.size = 1;
  batch.inputs = tokens;
  batch.labels = labels;
  ASSERT_OK(network->Evaluate(batch));
  const std::vector<float> before = Copy(network->outputs());
  tokens[4] = 9;
  ASSERT_OK(network->Evaluate(batch));
  for (size_t i = 0; i < before.size(); ++i) {
    if (i < 4 * 11) {
      EXPECT_EQ(network->outputs()[i], before[i]) << i;
    } else {
      EXPECT_NE(network->outputs()[i], before[i]) << i;
    }
  }
}

TEST_P(NetworkContract, FirstLossOfGpt_IsThatOfKnowingNothing) {
  const ModelGraph graph = ParseGraph(
      "input_shape: 16 gpt { vocabulary: 300 layers: 3 heads: 4 width: 32 }");
  auto network = Make(graph, Sized(16));
  graph.InitializeParameters(1, 0, network->parameters());
  const Examples examples(graph, 16, 1);
  ASSERT_OK_AND_ASSIGN(BatchMetrics metrics,
                       network->Evaluate(examples.First(16, kCrossEntropy)));
  // Logits have a variance of 32 * 0.02^2, half of which the loss has more.
  EXPECT_NEAR(metrics.loss, std::log(300.0), 0.01 * std::log(300.0));
}

TEST_P(NetworkContract, BadTokens_AreNamedByExampleAndPosition) {
  const ModelGraph graph = SmallGpt();
  auto network = Make(graph, Sized(2));
  const Examples examples(graph, 2, 1);
  Batch batch = examples.First(2, kCrossEntropy);
  std::vector<float> tokens(batch.inputs.begin(), batch.inputs.end());
  std::vector<int32_t> labels(batch.labels.begin(), batch.labels.end());
  const auto refuses = [&](const std::string& message) {
    batch.inputs = tokens;
    batch.labels = labels;
    EXPECT_THAT(
        network->Evaluate(batch),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(message)));
  };
  for (float bad : {11.0f, -1.0f, 2.5f, std::nanf(""), 1e30f}) {
    tokens[8] = bad;
    refuses(
        "example 1, position 2: expected a token, a whole number from 0 to 10");
  }
  tokens[8] = 10;
  labels[7] = 11;
  refuses("example 1, position 1: expected a label from 0 to 10, found 11");
  labels.pop_back();
  refuses("expected 12 labels, found 11");
}

TEST_P(NetworkContract, SquaredErrorOfSequences_IsRefused) {
  Network::Options options = Sized(2);
  options.loss = kSquaredError;
  EXPECT_THAT(GetParam().make(SmallGpt(), options),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("outputs at 6 positions")));
}

// Every gradient once, and with the value that it keeps.
TEST_P(NetworkContract, GradientsReady_TellsOfEachOnce) {
  for (const NamedModel& model : TestModels()) {
    SCOPED_TRACE(model.name);
    Network::Options options = Sized(4);
    options.loss = model.loss;
    auto network = Make(model.graph, options);
    DrawParameters(model.graph, 2, network->parameters());
    const Examples examples(model.graph, 4, 1);
    std::vector<int> told(network->gradients().size());
    std::vector<float> values(told.size());
    ASSERT_OK(network->ForwardBackward(examples.First(4, model.loss), 1,
                                       [&](size_t begin, size_t end) {
                                         ASSERT_LE(end, told.size());
                                         for (size_t i = begin; i < end; ++i) {
                                           ++told[i];
                                           values[i] = network->gradients()[i];
                                         }
                                       }));
    EXPECT_THAT(told, Each(1));
    EXPECT_EQ(values, Copy(network->gradients()));
  }
}

TEST_P(NetworkContract, BatchNorm_LearnsMomentsAndEvaluatesByThem) {
  const ModelGraph graph = ParseGraph(
      "input_shape: 2 layers { layers { batch_norm { momentum: 0.5 } }"
      " layers { dense { units: 2 } } }");
  auto network = Make(graph, Sized(4));
  graph.InitializeParameters(1, 0, network->parameters());
  const std::vector<float> inputs = {1, 10, 2, 10, 3, 10, 100, 100};
  const std::vector<int32_t> labels = {0, 1, 0, 1};
  Batch batch;
  batch.size = 3;  // the fourth has no part in it
  batch.inputs = absl::MakeConstSpan(inputs).subspan(0, 6);
  batch.labels = absl::MakeConstSpan(labels).subspan(0, 3);
  ASSERT_OK(network->Evaluate(batch));
  const std::vector<float> fresh = Copy(network->outputs());
  ASSERT_OK(network->ForwardBackward(batch, 1));
  EXPECT_NE(Copy(network->outputs()), fresh);
  // Scale, shift, running mean, running variance.
  const std::vector<float> parameters = Copy(network->parameters());
  EXPECT_THAT(absl::MakeConstSpan(parameters).subspan(0, 8),
              testing::ElementsAre(1, 1, 0, 0, 1, 5, 1, 0.5));
  const std::vector<float> gradients = Copy(network->gradients());
  EXPECT_THAT(absl::MakeConstSpan(gradients).subspan(4, 4), Each(0.0f));
  ASSERT_OK(network->Evaluate(batch));
  EXPECT_EQ(Copy(network->parameters()), parameters);
  EXPECT_NE(Copy(network->outputs()), fresh);
}

INSTANTIATE_TEST_SUITE_P(
    Networks, NetworkContract,
    testing::Values(Implementation{"Reference", NewReferenceNetwork},
                    Implementation{"OneDnn", NewOneDnnNetwork}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace koinon::kernels
