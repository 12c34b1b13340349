#include "kernels/graph/control_variates.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/status_matchers.h"

namespace koinon::kernels {
namespace {

using ::testing::HasSubstr;

ModelLayout TwoTensors() {
  return *ModelLayout::Create(
      {{"fc1.weight", DType::kF32, {2, 3}}, {"fc1.bias", DType::kF32, {2}}});
}

TEST(WithControlVariates, Model_HasAllTensorsTwiceInOrder) {
  ASSERT_OK_AND_ASSIGN(const ModelLayout both,
                       WithControlVariates(TwoTensors()));
  ASSERT_EQ(both.tensors().size(), 4u);
  EXPECT_EQ(both.tensors()[0].name, "fc1.weight");
  EXPECT_EQ(both.tensors()[2].name, "scaffold.control/fc1.weight");
  EXPECT_EQ(both.tensors()[2].shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(both.tensors()[3].name, "scaffold.control/fc1.bias");
  EXPECT_EQ(both.total_elements(), 16u);
  // The model's values are the first half of the flat values.
  EXPECT_EQ(both.offset_bytes(2), TwoTensors().total_bytes());
}

TEST(WithControlVariates, NameWithoutRoomForThePrefix_IsRefused) {
  const auto model =
      ModelLayout::Create({{std::string(256, 'n'), DType::kF32, {1}}});
  ASSERT_OK(model);
  EXPECT_THAT(WithControlVariates(*model),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("256")));
}

TEST(VersionLayout, OnlyScaffold_Extends) {
  v1::TrainingSpec training;
  EXPECT_THAT(VersionLayout(TwoTensors(), training),
              IsOkAndHolds(TwoTensors()));
  training.mutable_scaffold();
  EXPECT_THAT(VersionLayout(TwoTensors(), training),
              IsOkAndHolds(*WithControlVariates(TwoTensors())));
}

TEST(WithoutControlVariates, ExtendedLayout_GivesBackTheModel) {
  const auto model = WithoutControlVariates(*WithControlVariates(TwoTensors()));
  ASSERT_TRUE(model.has_value());
  EXPECT_EQ(*model, TwoTensors());
}

TEST(WithoutControlVariates, AnythingElse_IsNone) {
  EXPECT_FALSE(WithoutControlVariates(ModelLayout()).has_value());
  EXPECT_FALSE(WithoutControlVariates(TwoTensors()).has_value());
  // Right names, another shape.
  EXPECT_FALSE(
      WithoutControlVariates(
          *ModelLayout::Create({{"w", DType::kF32, {2}},
                                {"scaffold.control/w", DType::kF32, {3}}}))
          .has_value());
  // A control variate that is for no tensor before it.
  EXPECT_FALSE(
      WithoutControlVariates(
          *ModelLayout::Create({{"w", DType::kF32, {2}},
                                {"v", DType::kF32, {2}},
                                {"scaffold.control/v", DType::kF32, {2}},
                                {"scaffold.control/w", DType::kF32, {2}}}))
          .has_value());
}

TEST(CheckScaffoldTraining, PlainSgd_IsFine) {
  v1::TrainingSpec training;
  training.mutable_scaffold();
  EXPECT_OK(CheckScaffoldTraining(training));
  training.mutable_optimizer()->mutable_sgd()->set_weight_decay(0.01);
  training.mutable_schedule()->mutable_step()->set_every(3);
  EXPECT_OK(CheckScaffoldTraining(training));
}

TEST(CheckScaffoldTraining, WithoutScaffold_EverythingIsFine) {
  v1::TrainingSpec training;
  training.set_clip_norm(1);
  training.mutable_optimizer()->mutable_adam();
  EXPECT_OK(CheckScaffoldTraining(training));
}

TEST(CheckScaffoldTraining, WhatItCannotDo_IsRefusedByName) {
  v1::TrainingSpec scaffold;
  scaffold.mutable_scaffold();
  const auto refusal = [](const v1::TrainingSpec& training) {
    return std::string(CheckScaffoldTraining(training).message());
  };
  v1::TrainingSpec training = scaffold;
  training.mutable_optimizer()->mutable_sgd()->set_momentum(0.9);
  EXPECT_THAT(refusal(training),
              HasSubstr("training.optimizer.sgd.momentum is 0.9"));
  training = scaffold;
  training.mutable_optimizer()->mutable_adam();
  EXPECT_THAT(refusal(training), HasSubstr("training.optimizer is adam;"));
  training = scaffold;
  training.mutable_optimizer()->mutable_adamw();
  EXPECT_THAT(refusal(training), HasSubstr("training.optimizer is adamw;"));
  training = scaffold;
  training.set_proximal_mu(0.5);
  EXPECT_THAT(refusal(training), HasSubstr("training.proximal_mu (0.5)"));
  training = scaffold;
  training.set_clip_norm(2);
  EXPECT_THAT(refusal(training), HasSubstr("training.clip_norm is 2"));
  training = scaffold;
  training.set_external_trainer("numpy");
  EXPECT_THAT(refusal(training),
              HasSubstr("training.external_trainer is numpy"));
}

}  // namespace
}  // namespace koinon::kernels
