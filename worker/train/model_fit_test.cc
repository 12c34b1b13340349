#include "worker/train/model_fit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_format.h"
#include "base/status_matchers.h"
#include "google/protobuf/text_format.h"

namespace koinon::worker {
namespace {

using testing::HasSubstr;

constexpr auto kCrossEntropy = v1::TrainingSpec::SOFTMAX_CROSS_ENTROPY;

kernels::ModelGraph Graph(const std::string& text) {
  v1::ModelSpec spec;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &spec));
  auto graph = kernels::ModelGraph::Build(spec);
  EXPECT_OK(graph);
  return *std::move(graph);
}

kernels::ModelGraph Gpt(int context, int vocabulary) {
  return Graph(
      absl::StrFormat("input_shape: %d gpt { vocabulary: %d layers: 1 "
                      "heads: 1 width: 4 }",
                      context, vocabulary));
}

// Tokens below `vocabulary` (0: nobody has looked), in windows of 4.
Dataset Sequences(int64_t vocabulary) {
  Dataset data;
  data.name = "plays";
  data.shape = {4};
  data.windows.tokens = MakeTokens({0, 1, 2, 3, 4, 5, 6});
  data.windows.end = 7;
  data.windows.context = data.windows.stride = 4;
  data.windows.vocabulary = vocabulary;
  return data;
}

Dataset Classes() {
  Dataset data;
  data.name = "points";
  data.shape = {4};
  data.features = {1, 2, 3, 4};
  data.labels = {1};
  return data;
}

TEST(CheckModelFit, Sequences_NeedAModelOfThem) {
  EXPECT_OK(CheckModelFit(Gpt(4, 7), kCrossEntropy, Sequences(7)));
  EXPECT_OK(CheckModelFit(Gpt(4, 9), kCrossEntropy, Sequences(0)));
  EXPECT_THAT(
      CheckModelFit(Graph("input_shape: 4 mlp { hidden: 3 classes: 7 }"),
                    kCrossEntropy, Sequences(7)),
      StatusIs(absl::StatusCode::kInvalidArgument,
               HasSubstr("expected a class at 1 positions of each example, as "
                         "the model has outputs, found 4")));
}

TEST(CheckModelFit, ModelOfSequences_NeedsThem) {
  EXPECT_THAT(CheckModelFit(Gpt(4, 7), kCrossEntropy, Classes()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("found 1 (it has no sequences)")));
}

TEST(CheckModelFit, ContextAndVocabulary_AreTheModels) {
  EXPECT_THAT(CheckModelFit(Gpt(5, 7), kCrossEntropy, Sequences(7)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("expected examples of shape [5]")));
  EXPECT_THAT(CheckModelFit(Gpt(4, 6), kCrossEntropy, Sequences(7)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("expected a vocabulary of at most 6 tokens, "
                                 "as the model has, found 7")));
}

TEST(CheckModelFit, UnknownLoss_IsRefused) {
  EXPECT_THAT(
      CheckModelFit(Gpt(4, 7), static_cast<v1::TrainingSpec::Loss>(9),
                    Sequences(7)),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("training.loss")));
}

TEST(CheckModelMemory, ParametersAndOutputs_AreBounded) {
  const auto graph = Gpt(4, 7);
  EXPECT_OK(CheckModelMemory(graph, 8, 1 << 20));
  EXPECT_THAT(CheckModelMemory(graph, 1, 100),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(CheckModelMemory(graph, 1 << 24, 1 << 20),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

}  // namespace
}  // namespace koinon::worker
