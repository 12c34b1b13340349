#include "tools/bench/rank_step.h"

#include "absl/types/span.h"
#include "base/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace koinon::bench {
namespace {

constexpr int64_t kMlpBytes =
    4 * (784 * 512 + 512 + 512 * 256 + 256 + 256 * 10 + 10);

// Takes every gradient for its own, and may fail.
class LoneExchange final : public worker::GradientExchange {
 public:
  void Start(int64_t, double weight, absl::Span<float> gradients) override {
    weight_ = weight;
    missing_ = gradients.size();
  }
  void Ready(size_t begin, size_t end) override { missing_ -= end - begin; }
  absl::Status Finish(const absl::Status& own) override {
    EXPECT_OK(own);
    EXPECT_EQ(missing_, 0u);
    ++finished_;
    return outcome_;
  }
  absl::Status Stepped(int64_t, absl::Span<float>) override {
    return absl::OkStatus();
  }

  double weight_ = 0;
  size_t missing_ = 0;
  int finished_ = 0;
  absl::Status outcome_;
};

TEST(RankStepTest, Create_UnknownModel_IsNotFound) {
  EXPECT_THAT(RankStep::Create("perceptron", {.batch_size = 1}).status(),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST(RankStepTest, Create_ModelMeasuredForwardOnly_IsRefused) {
  EXPECT_THAT(
      RankStep::Create("mobilenet_v3_small", {.batch_size = 1}).status(),
      StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(RankStepTest, Alone_StepsWithoutOthers) {
  ASSERT_OK_AND_ASSIGN(const auto step,
                       RankStep::Create("mlp", {.batch_size = 2}));
  EXPECT_OK(step->Alone());
  EXPECT_EQ(step->gradient_bytes(), kMlpBytes);
}

TEST(RankStepTest, Together_TellsEveryGradientAndTheWeight) {
  ASSERT_OK_AND_ASSIGN(const auto step,
                       RankStep::Create("mlp", {.batch_size = 2}));
  LoneExchange exchange;
  EXPECT_OK(step->Together(&exchange, 0.25));
  EXPECT_EQ(exchange.weight_, 0.25);
  EXPECT_EQ(exchange.finished_, 1);
}

TEST(RankStepTest, Together_ExchangeFails_IsThatError) {
  ASSERT_OK_AND_ASSIGN(const auto step,
                       RankStep::Create("mlp", {.batch_size = 2}));
  LoneExchange exchange;
  exchange.outcome_ = absl::UnavailableError("rank 1 died");
  EXPECT_THAT(step->Together(&exchange, 1),
              StatusIs(absl::StatusCode::kUnavailable));
}

}  // namespace
}  // namespace koinon::bench
