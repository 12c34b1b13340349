#include "kernels/graph/presets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/status_matchers.h"

namespace koinon::kernels {
namespace {

using ::testing::HasSubstr;

v1::ModelSpec ImageSpec() {
  v1::ModelSpec spec;
  for (int64_t extent : {1, 28, 28}) spec.add_input_shape(extent);
  return spec;
}

absl::StatusOr<std::vector<v1::Layer>> Expand(const v1::ModelSpec& spec) {
  return ExpandArchitecture(spec, 20);
}

TEST(ExpandArchitecture_LogisticRegression, OnImage_FlattensFirst) {
  v1::ModelSpec spec = ImageSpec();
  spec.mutable_logistic_regression()->set_classes(10);
  ASSERT_OK_AND_ASSIGN(auto layers, Expand(spec));
  ASSERT_EQ(layers.size(), 2u);
  EXPECT_TRUE(layers[0].has_flatten());
  EXPECT_EQ(layers[1].dense().units(), 10);
}

TEST(ExpandArchitecture_Mlp, OnVector_HasReluBetweenDenseLayers) {
  v1::ModelSpec spec;
  spec.add_input_shape(784);
  spec.mutable_mlp()->add_hidden(30);
  spec.mutable_mlp()->set_classes(10);
  ASSERT_OK_AND_ASSIGN(auto layers, Expand(spec));
  ASSERT_EQ(layers.size(), 3u);
  EXPECT_EQ(layers[0].dense().units(), 30);
  EXPECT_EQ(layers[1].activation(), v1::Layer::RELU);
  EXPECT_EQ(layers[2].dense().units(), 10);
}

TEST(ExpandArchitecture_Mlp, HiddenSizeOfZero_IsRefusedByIndex) {
  v1::ModelSpec spec = ImageSpec();
  spec.mutable_mlp()->set_classes(10);
  spec.mutable_mlp()->add_hidden(30);
  spec.mutable_mlp()->add_hidden(0);
  EXPECT_THAT(Expand(spec), StatusIs(absl::StatusCode::kInvalidArgument,
                                     HasSubstr("mlp.hidden[1]: expected")));
}

TEST(ExpandArchitecture_Mlp, TooManyHiddenLayers_AreRefused) {
  v1::ModelSpec spec = ImageSpec();
  spec.mutable_mlp()->set_classes(10);
  for (int i = 0; i < 11; ++i) spec.mutable_mlp()->add_hidden(1);
  EXPECT_THAT(Expand(spec), StatusIs(absl::StatusCode::kInvalidArgument,
                                     HasSubstr("at most 10, found 11")));
}

TEST(ExpandArchitecture_Cnn, ZeroFields_TakeTheLiteraturesValues) {
  v1::ModelSpec spec = ImageSpec();
  spec.mutable_cnn()->set_classes(10);
  ASSERT_OK_AND_ASSIGN(auto layers, Expand(spec));
  ASSERT_EQ(layers.size(), 10u);
  EXPECT_EQ(layers[0].conv2d().channels(), 32);
  EXPECT_EQ(layers[0].conv2d().kernel(), 5);
  EXPECT_EQ(layers[0].conv2d().padding(), 2);
  EXPECT_EQ(layers[3].conv2d().channels(), 64);
  EXPECT_EQ(layers[7].dense().units(), 512);
}

TEST(ExpandArchitecture_Cnn, OddInputs_AreRefused) {
  v1::ModelSpec even = ImageSpec();
  even.mutable_cnn()->set_classes(10);
  even.mutable_cnn()->set_kernel(4);
  EXPECT_THAT(Expand(even), StatusIs(absl::StatusCode::kInvalidArgument,
                                     HasSubstr("odd number, found 4")));
  v1::ModelSpec flat;
  flat.add_input_shape(784);
  flat.mutable_cnn()->set_classes(10);
  EXPECT_THAT(Expand(flat), StatusIs(absl::StatusCode::kInvalidArgument,
                                     HasSubstr("found 1 extents")));
  v1::ModelSpec classless = ImageSpec();
  classless.mutable_cnn();
  EXPECT_THAT(Expand(classless), StatusIs(absl::StatusCode::kInvalidArgument,
                                          HasSubstr("cnn.classes")));
}

TEST(ExpandArchitecture_LayerList, OverTheBound_IsRefused) {
  v1::ModelSpec spec = ImageSpec();
  for (int i = 0; i < 21; ++i) spec.mutable_layers()->add_layers();
  EXPECT_THAT(Expand(spec), StatusIs(absl::StatusCode::kInvalidArgument,
                                     HasSubstr("at most 20, found 21")));
}

TEST(ExpandArchitecture, NoArchitecture_ListsTheKnownOnes) {
  EXPECT_THAT(
      Expand(ImageSpec()),
      StatusIs(absl::StatusCode::kInvalidArgument,
               HasSubstr("logistic_regression, mlp, cnn, layers, resnet")));
}

}  // namespace
}  // namespace koinon::kernels
