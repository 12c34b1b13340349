#include <gtest/gtest.h>

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "base/safetensors.h"
#include "base/status_matchers.h"
#include "worker/data/testdata.h"
#include "worker/train/external_trainer.h"
#include "worker/train/testtask.h"

namespace koinon::worker {
namespace {

using testdata::TempPath;

constexpr char kExample[] = "docs/examples/numpy_trainer/train.py";

// The blobs as the table that the example reads: features, then the label.
std::string Table(const Dataset& data) {
  std::string text;
  for (size_t i = 0; i < data.size(); ++i) {
    absl::StrAppend(&text, data.features[2 * i], ",", data.features[2 * i + 1],
                    ",", data.labels[i], "\n");
  }
  return text;
}

TEST(NumpyTrainer, SeparableBlobs_AreLearned) {
  LocalDatasets datasets;
  datasets["blobs"].external = true;
  datasets["blobs"].declared_examples = 200;
  datasets["blobs"].declared_held_out_examples = 50;
  const std::string table =
      testdata::WriteTemp("blobs.csv", Table(testtask::Blobs(250, 3, 1)));
  ExternalTrainerConfig config;
  config.set_name("numpy");
  for (const std::string& word : {std::string("/usr/bin/python3"),
                                  std::filesystem::absolute(kExample).string(),
                                  absl::StrCat("blobs=", table)}) {
    config.add_command(word);
  }
  const RealClock clock;
  ASSERT_OK_AND_ASSIGN(const auto trainer,
                       ExternalTrainer::Create(RealEnv(), &clock, &datasets,
                                               TempPath("scratch"), config));

  v1::OfferTask offer = testtask::BlobOffer();
  auto& parameters = *offer.mutable_training()->mutable_parameters();
  parameters["learning_rate"] = "0.2";
  parameters["scale"] = "0.5";
  const std::string base = testtask::WriteBase(&offer);
  const std::atomic<bool> stop{false};
  ASSERT_OK_AND_ASSIGN(const v1::Metrics before,
                       trainer->Evaluate(offer, base, stop));
  ASSERT_OK_AND_ASSIGN(
      const v1::Metrics training,
      trainer->Train(offer, base, TempPath("update"), nullptr, stop));
  EXPECT_EQ(training.examples(), 200);
  EXPECT_EQ(training.steps(), 5 * 13);

  ASSERT_OK_AND_ASSIGN(Model model, ReadModel(RealEnv(), base, 1 << 20));
  const std::vector<float> update = testtask::ReadFloats(TempPath("update"));
  ASSERT_EQ(update.size(), model.values.size());
  for (size_t i = 0; i < update.size(); ++i) model.values[i] += update[i];
  const std::string published = TempPath("published.safetensors");
  ASSERT_OK(WriteModel(RealEnv(), published, model));
  ASSERT_OK_AND_ASSIGN(const v1::Metrics after,
                       trainer->Evaluate(offer, published, stop));
  EXPECT_EQ(after.examples(), 50);
  EXPECT_GT(after.accuracy(), 0.95);
  EXPECT_LT(after.loss(), before.loss());
}

}  // namespace
}  // namespace koinon::worker
