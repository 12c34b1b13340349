#include "worker/collective/data_fingerprint.h"

#include <functional>

#include "gtest/gtest.h"

namespace koinon::worker {
namespace {

LocalDatasets Some() {
  LocalDatasets datasets;
  Dataset& images = datasets["images"].train;
  images.shape = {1, 2};
  images.features = {1, 2, 3, 4};
  images.labels = {0, 1};
  Dataset& text = datasets["text"].train;
  text.shape = {3};
  text.windows.tokens = MakeTokens(std::vector<uint16_t>(100'000, uint16_t{7}));
  text.windows.end = 100'000;
  text.windows.context = 3;
  text.windows.stride = 3;
  return datasets;
}

TEST(DataFingerprintTest, SameData_IsTheSame) {
  EXPECT_EQ(DataFingerprint(Some()), DataFingerprint(Some()));
}

TEST(DataFingerprintTest, AnythingElse_IsAnother) {
  const Digest some = DataFingerprint(Some());
  const auto differs = [&](const std::function<void(LocalDatasets&)>& change) {
    LocalDatasets datasets = Some();
    change(datasets);
    return DataFingerprint(datasets) != some;
  };
  EXPECT_TRUE(differs([](auto& d) { d["images"].train.features[3] = 5; }));
  EXPECT_TRUE(differs([](auto& d) { d["images"].train.labels[0] = 1; }));
  EXPECT_TRUE(differs([](auto& d) { d["images"].train.shape = {2, 1}; }));
  EXPECT_TRUE(differs([](auto& d) { d["images"].train.targets = {1}; }));
  EXPECT_TRUE(differs([](auto& d) { d["text"].train.windows.stride = 1; }));
  EXPECT_TRUE(differs([](auto& d) {
    d["text"].train.windows.tokens =
        MakeTokens(std::vector<uint16_t>(100'000, uint16_t{8}));
  }));
  EXPECT_TRUE(differs([](auto& d) { d.erase("text"); }));
  EXPECT_TRUE(differs([](auto& d) {
    d["more"] = d["text"];
    d.erase("text");
  }));
  EXPECT_TRUE(differs([](auto& d) {
    d["images"].external = true;
    d["images"].declared_examples = 2;
  }));
}

TEST(DataFingerprintTest, OneSet_IsKnownByItsExamplesAlone) {
  LocalDatasets datasets = Some();
  Dataset& images = datasets["images"].train;
  const Digest some = DataFingerprint(images);
  images.name = "renamed";
  EXPECT_EQ(DataFingerprint(images), some);
  images.labels[1] = 2;
  EXPECT_NE(DataFingerprint(images), some);
  EXPECT_NE(DataFingerprint(datasets["text"].train), some);
}

}  // namespace
}  // namespace koinon::worker
