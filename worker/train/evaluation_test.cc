#include "worker/train/evaluation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "base/status_matchers.h"

namespace koinon::worker {
namespace {

using testing::ElementsAre;

// Says of each batch that its loss is the mean of its inputs, and that one
// example is right.
class MeanNetwork final : public kernels::Network {
 public:
  absl::Span<float> parameters() override { return {}; }
  absl::Span<float> gradients() override { return {}; }
  absl::StatusOr<kernels::BatchMetrics> Evaluate(
      const kernels::Batch& batch) override {
    kernels::BatchMetrics metrics;
    firsts.push_back(batch.inputs[0]);
    for (float input : batch.inputs) metrics.loss += input;
    metrics.loss /= static_cast<double>(batch.inputs.size());
    metrics.correct = 1;
    return metrics;
  }
  absl::StatusOr<kernels::BatchMetrics> ForwardBackward(
      const kernels::Batch&, uint64_t, kernels::GradientsReady) override {
    return absl::UnimplementedError("");
  }
  absl::Span<const float> outputs() const override { return {}; }

  std::vector<float> firsts;  // the first input of each batch
};

Dataset Numbered(int count) {
  Dataset data;
  data.shape = {1};
  for (int i = 0; i < count; ++i) {
    data.features.push_back(static_cast<float>(i));
    data.labels.push_back(0);
  }
  return data;
}

const std::atomic<bool> kNever{false};

TEST(EvaluateDataset, EveryExample_CountsTheSame) {
  MeanNetwork network;
  ASSERT_OK_AND_ASSIGN(const TrainingTotals totals,
                       EvaluateDataset(Numbered(10), 4, &network, kNever));
  EXPECT_THAT(network.firsts, ElementsAre(0, 4, 8));
  EXPECT_EQ(totals.examples, 10);
  EXPECT_DOUBLE_EQ(totals.MeanLoss(), 4.5);
  EXPECT_DOUBLE_EQ(totals.Accuracy(), 0.3);
}

TEST(EvaluateDataset, FewBatches_AreSpreadOverTheData) {
  MeanNetwork network;
  ASSERT_OK_AND_ASSIGN(const TrainingTotals totals,
                       EvaluateDataset(Numbered(100), 10, &network, kNever, 3));
  EXPECT_THAT(network.firsts, ElementsAre(0, 30, 60));
  EXPECT_EQ(totals.examples, 30);
}

TEST(EvaluateDataset, Stop_CancelsIt) {
  MeanNetwork network;
  const std::atomic<bool> stop{true};
  EXPECT_THAT(EvaluateDataset(Numbered(10), 4, &network, stop),
              StatusIs(absl::StatusCode::kCancelled));
}

TEST(EvaluateDataset, LossThatIsNotFinite_IsAnError) {
  MeanNetwork network;
  Dataset data = Numbered(3);
  data.features[1] = std::numeric_limits<float>::infinity();
  EXPECT_THAT(EvaluateDataset(data, 4, &network, kNever),
              StatusIs(absl::StatusCode::kInternal));
}

}  // namespace
}  // namespace koinon::worker
