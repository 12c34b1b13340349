#include "worker/capabilities.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/status_matchers.h"

namespace koinon::worker {
namespace {

using ::testing::HasSubstr;

LocalDatasets SomeData() {
  LocalDatasets datasets;
  LocalData& images = datasets["images"];
  images.train.shape = {1, 2, 2};
  images.train.features.resize(12);
  images.train.labels = {0, 1, 0};
  LocalData& far = datasets["far"];
  far.external = true;
  far.declared_examples = 7;
  far.declared_held_out_examples = 2;
  return datasets;
}

v1::OfferTask Offer(const std::string& dataset, int64_t inputs) {
  v1::OfferTask offer;
  offer.set_dataset(dataset);
  offer.mutable_model()->add_input_shape(inputs);
  offer.mutable_model()->mutable_logistic_regression()->set_classes(2);
  return offer;
}

TEST(LocalCapabilities, Machine_HasCoresAndMemory) {
  const v1::Capabilities capabilities = LocalCapabilities({}, {});
  EXPECT_GE(capabilities.cores(), 1);
  EXPECT_GE(capabilities.memory_bytes(), 1 << 20);
}

TEST(LocalCapabilities, Data_IsToldByNameAndCount) {
  const v1::Capabilities capabilities =
      LocalCapabilities(SomeData(), {"numpy"});
  ASSERT_EQ(capabilities.datasets_size(), 2);
  EXPECT_EQ(capabilities.datasets(0).name(), "far");
  EXPECT_EQ(capabilities.datasets(0).examples(), 7);
  EXPECT_EQ(capabilities.datasets(0).held_out_examples(), 2);
  EXPECT_EQ(capabilities.datasets(1).examples(), 3);
  EXPECT_EQ(capabilities.external_trainers(0), "numpy");
}

TEST(CheckModelFitsData, SameSize_IsOk) {
  EXPECT_OK(CheckModelFitsData(SomeData(), Offer("images", 4)));
}

TEST(CheckModelFitsData, OtherSize_SaysBothShapes) {
  EXPECT_THAT(CheckModelFitsData(SomeData(), Offer("images", 5)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("[5], dataset images has [1, 2, 2]")));
}

TEST(CheckModelFitsData, BadModel_IsRefused) {
  v1::OfferTask offer = Offer("images", 4);
  offer.mutable_model()->mutable_logistic_regression()->set_classes(-1);
  EXPECT_THAT(CheckModelFitsData(SomeData(), offer),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(CheckModelFitsData, ExternalData_NeedsAnExternalTrainer) {
  v1::OfferTask offer = Offer("far", 4);
  EXPECT_THAT(CheckModelFitsData(SomeData(), offer),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("external trainer")));
  offer.mutable_training()->set_external_trainer("numpy");
  EXPECT_OK(CheckModelFitsData(SomeData(), offer));
}

}  // namespace
}  // namespace koinon::worker
