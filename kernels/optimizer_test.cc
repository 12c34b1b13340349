#include "kernels/optimizer.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "base/status_matchers.h"

namespace koinon::kernels {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

template <typename Message>
Message Parse(const std::string& text) {
  Message message;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &message));
  return message;
}

absl::StatusOr<std::unique_ptr<LocalOptimizer>> Create(const std::string& text,
                                                       size_t size) {
  return LocalOptimizer::Create(Parse<v1::Optimizer>(text), size);
}

// Steps on f(w) = w^2 / 2 from w = 1, whose gradient is w itself.
double Descend(const std::string& optimizer, int steps) {
  auto created = Create(optimizer, 1);
  EXPECT_THAT(created, IsOk());
  float w = 1;
  for (int i = 0; i < steps; ++i) {
    const float gradient = w;
    (*created)->Step(1, absl::MakeSpan(&gradient, 1), absl::MakeSpan(&w, 1));
  }
  return w;
}

// A few float operations per step.
constexpr double kTolerance = 1e-6;

TEST(LocalOptimizer_Sgd, Plain_ShrinksByOneMinusRate) {
  EXPECT_NEAR(Descend("sgd { learning_rate: 0.25 }", 3), std::pow(0.75, 3),
              kTolerance);
}

TEST(LocalOptimizer_Sgd, NoKind_IsSgdWithItsDefaults) {
  EXPECT_NEAR(Descend("", 1), 0.9, kTolerance);
  EXPECT_NEAR(Descend("sgd {}", 2), 0.81, kTolerance);
}

TEST(LocalOptimizer_Sgd, WeightDecay_AddsToTheGradient) {
  // w - 0.1 (w + 0.5 w)
  EXPECT_NEAR(Descend("sgd { learning_rate: 0.1 weight_decay: 0.5 }", 2),
              0.85 * 0.85, kTolerance);
}

TEST(LocalOptimizer_Sgd, Momentum_FollowsTheRecurrence) {
  // v = 1, w = 0.9; v = 0.5 + 0.9 = 1.4, w = 0.76; v = 0.7 + 0.76, w = 0.614.
  EXPECT_NEAR(Descend("sgd { learning_rate: 0.1 momentum: 0.5 }", 3), 0.614,
              kTolerance);
}

TEST(LocalOptimizer_Sgd, Nesterov_LooksOneStepAhead) {
  // v = 1, w = 1 - 0.1 (1 + 0.5) = 0.85;
  // v = 0.5 + 0.85 = 1.35, w = 0.85 - 0.1 (0.85 + 0.675) = 0.6975.
  EXPECT_NEAR(
      Descend("sgd { learning_rate: 0.1 momentum: 0.5 nesterov: true }", 2),
      0.6975, kTolerance);
}

TEST(LocalOptimizer_Adam, FirstStep_IsTheLearningRateWhateverTheGradient) {
  // The corrected moments are g and g^2: the step is rate * g / (|g| + eps).
  for (float gradient : {1e-3f, 1.0f, -2000.0f}) {
    ASSERT_OK_AND_ASSIGN(auto adam, Create("adam { learning_rate: 0.01 }", 1));
    float w = 0.5;
    adam->Step(1, absl::MakeSpan(&gradient, 1), absl::MakeSpan(&w, 1));
    EXPECT_NEAR(w, 0.5 - std::copysign(0.01, gradient), kTolerance);
  }
}

// The textbook recurrence in double (Kingma and Ba 2015, algorithm 1), with
// decay as in Loshchilov and Hutter 2019 if `decoupled`.
double AdamByTheBook(double rate, double beta1, double beta2, double epsilon,
                     double decay, bool decoupled, int steps) {
  double w = 1, m = 0, v = 0;
  for (int t = 1; t <= steps; ++t) {
    double g = w;
    if (decoupled) {
      w -= rate * decay * w;
    } else {
      g += decay * w;
    }
    m = beta1 * m + (1 - beta1) * g;
    v = beta2 * v + (1 - beta2) * g * g;
    const double corrected_m = m / (1 - std::pow(beta1, t));
    const double corrected_v = v / (1 - std::pow(beta2, t));
    w -= rate * corrected_m / (std::sqrt(corrected_v) + epsilon);
  }
  return w;
}

TEST(LocalOptimizer_Adam, ManySteps_FollowTheBook) {
  EXPECT_NEAR(Descend("adam {}", 50),
              AdamByTheBook(0.001, 0.9, 0.999, 1e-8, 0, false, 50), 1e-5);
  EXPECT_NEAR(Descend("adam { learning_rate: 0.05 beta1: 0.8 beta2: 0.95"
                      " epsilon: 0.01 weight_decay: 0.3 }",
                      20),
              AdamByTheBook(0.05, 0.8, 0.95, 0.01, 0.3, false, 20), 1e-5);
}

TEST(LocalOptimizer_AdamW, ManySteps_FollowTheBook) {
  const double coupled =
      Descend("adam { learning_rate: 0.05 weight_decay: 0.3 }", 10);
  const double decoupled =
      Descend("adamw { learning_rate: 0.05 weight_decay: 0.3 }", 10);
  EXPECT_NEAR(decoupled, AdamByTheBook(0.05, 0.9, 0.999, 1e-8, 0.3, true, 10),
              1e-5);
  EXPECT_GT(std::abs(coupled - decoupled), 0.01);
}

TEST(LocalOptimizer, RateFactor_ScalesTheStep) {
  ASSERT_OK_AND_ASSIGN(auto sgd, Create("sgd { learning_rate: 0.5 }", 2));
  const float gradients[] = {1, 2};
  float w[] = {0, 0};
  sgd->Step(0.5, gradients, absl::MakeSpan(w));
  EXPECT_THAT(w, ElementsAre(-0.25f, -0.5f));
}

TEST(LocalOptimizer, BadFields_AreNamed) {
  const auto refuses = [](const char* text, const char* message) {
    EXPECT_THAT(Create(text, 1), StatusIs(absl::StatusCode::kInvalidArgument,
                                          HasSubstr(message)));
  };
  refuses("sgd { learning_rate: -1 }", "optimizer.sgd.learning_rate: expected");
  refuses("sgd { learning_rate: nan }", "found nan");
  refuses("sgd { momentum: 1 }", "optimizer.sgd.momentum");
  refuses("sgd { weight_decay: -1 }", "optimizer.sgd.weight_decay");
  refuses("sgd { nesterov: true }", "momentum above 0");
  refuses("adam { beta1: 1 }", "optimizer.adam.beta1: expected [0, 1)");
  refuses("adamw { beta2: -0.1 }", "optimizer.adamw.beta2");
  refuses("adam { epsilon: inf }", "optimizer.adam.epsilon");
  refuses("adamw { weight_decay: -1 }", "optimizer.adamw.weight_decay");
}

double Factor(const std::string& schedule, int64_t index) {
  const auto parsed = Parse<v1::LearningRateSchedule>(schedule);
  EXPECT_OK(ValidateLearningRateSchedule(parsed));
  return LearningRateFactor(parsed, index);
}

TEST(LearningRateFactor_Constant, AnyIndex_IsOne) {
  EXPECT_EQ(Factor("", 0), 1);
  EXPECT_EQ(Factor("constant {}", 1'000'000), 1);
}

TEST(LearningRateFactor_Step, EveryThree_FallsAfterEachThree) {
  const char* schedule = "step { every: 3 factor: 0.5 }";
  EXPECT_EQ(Factor(schedule, 0), 1);
  EXPECT_EQ(Factor(schedule, 2), 1);
  EXPECT_EQ(Factor(schedule, 3), 0.5);
  EXPECT_EQ(Factor(schedule, 8), 0.25);
}

TEST(LearningRateFactor_Cosine, Halfway_IsTheMean) {
  const char* schedule = "cosine { steps: 10 final_factor: 0.2 }";
  EXPECT_DOUBLE_EQ(Factor(schedule, 0), 1);
  EXPECT_DOUBLE_EQ(Factor(schedule, 5), 0.6);
  EXPECT_DOUBLE_EQ(Factor(schedule, 10), 0.2);
  EXPECT_DOUBLE_EQ(Factor(schedule, 1000), 0.2);
}

TEST(LearningRateFactor_Warmup, BeforeTheSchedule_RisesLinearly) {
  const char* schedule = "warmup_steps: 4 step { every: 2 factor: 0.5 }";
  EXPECT_EQ(Factor(schedule, 0), 0.25);
  EXPECT_EQ(Factor(schedule, 3), 1);
  EXPECT_EQ(Factor(schedule, 4), 1);
  EXPECT_EQ(Factor(schedule, 5), 1);
  EXPECT_EQ(Factor(schedule, 6), 0.5);
}

TEST(ValidateLearningRateSchedule, BadFields_AreNamed) {
  const auto refuses = [](const char* text, const char* message) {
    EXPECT_THAT(
        ValidateLearningRateSchedule(Parse<v1::LearningRateSchedule>(text)),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(message)));
  };
  refuses("warmup_steps: -1", "schedule.warmup_steps");
  refuses("step { factor: 0.5 }", "schedule.step.every: expected at least 1");
  refuses("step { every: 1 factor: -1 }", "schedule.step.factor");
  refuses("cosine {}", "schedule.cosine.steps");
  refuses("cosine { steps: 1 final_factor: nan }", "final_factor");
}

TEST(GlobalNorm, ManySmallBesideOneLarge_LosesNothing) {
  // In float, 1e4^2 + 1 == 1e4^2: a norm accumulated in float stays at 1e4.
  std::vector<float> values(1'000'003, 1.0f);
  values[0] = 1e4f;
  EXPECT_NEAR(GlobalNorm(values), std::sqrt(1e8 + 1'000'002.0), 1e-6);
}

TEST(GlobalNorm, SquaresThatOverflowFloat_AreFine) {
  const float values[] = {3e30f, 4e30f};
  EXPECT_NEAR(GlobalNorm(values) / 5e30, 1, 1e-6);
  EXPECT_EQ(GlobalNorm({}), 0);
}

TEST(ClipByGlobalNorm, LongerThanAllowed_IsScaledToTheBound) {
  float gradients[] = {3, 4};
  EXPECT_EQ(ClipByGlobalNorm(1, absl::MakeSpan(gradients)), 5);
  EXPECT_NEAR(gradients[0], 0.6, kTolerance);
  EXPECT_NEAR(gradients[1], 0.8, kTolerance);
}

TEST(ClipByGlobalNorm, ShortEnough_StaysAsItIs) {
  float gradients[] = {3, 4};
  EXPECT_EQ(ClipByGlobalNorm(5, absl::MakeSpan(gradients)), 5);
  EXPECT_THAT(gradients, ElementsAre(3, 4));
}

TEST(ClipFactor, BringsTheStepDownToTheBound) {
  const float gradients[] = {3, 4};
  EXPECT_DOUBLE_EQ(ClipFactor(1, gradients), 0.2);
  EXPECT_EQ(ClipFactor(5, gradients), 1);
}

// Values of every size that the loops' ends can have, each another.
std::vector<float> Waves(size_t count, float phase) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) {
    values[i] = std::sin(static_cast<float>(i) + phase);
  }
  return values;
}

TEST(GlobalNorm, Threads_HaveNoPartInIt) {
  const std::vector<float> values = Waves(10'007, 0);
  const double norm = GlobalNorm(values);
  // The mean of sin^2 is a half.
  EXPECT_NEAR(norm * norm, 10'007 / 2.0, 1);
  EXPECT_EQ(GlobalNorm(values, 2), norm);
  EXPECT_EQ(GlobalNorm(values, 3), norm);
}

class OptimizerKinds : public testing::TestWithParam<std::string> {
 protected:
  // Parameters after three steps from Waves(count, 1).
  std::vector<float> Run(size_t count, const LocalOptimizer::Options& options,
                         double gradient_factor, float scale) {
    v1::Optimizer spec;
    EXPECT_TRUE(
        google::protobuf::TextFormat::ParseFromString(GetParam(), &spec));
    auto optimizer = LocalOptimizer::Create(spec, count, options);
    EXPECT_OK(optimizer.status());
    std::vector<float> parameters = Waves(count, 1);
    std::vector<float> gradients = Waves(count, 2);
    for (float& gradient : gradients) gradient *= scale;
    for (int step = 0; step < 3; ++step) {
      (*optimizer)
          ->Step(0.7, gradient_factor, gradients, absl::MakeSpan(parameters));
    }
    return parameters;
  }
};

TEST_P(OptimizerKinds, Threads_GiveTheSameBytes) {
  for (size_t count : {1, 15, 16, 17, 1000}) {
    EXPECT_EQ(Run(count, {.threads = 3, .frozen = {}}, 1, 1),
              Run(count, {}, 1, 1));
  }
}

TEST_P(OptimizerKinds, GradientFactor_IsAsGoodAsScaledGradients) {
  // A power of two: no rounding.
  EXPECT_EQ(Run(100, {}, 0.25, 1), Run(100, {}, 1, 0.25));
}

TEST_P(OptimizerKinds, FrozenParameters_StayAndOthersDoNotCare) {
  const std::vector<float> all = Run(100, {}, 1, 1);
  const std::vector<float> before = Waves(100, 1);
  const std::vector<float> some =
      Run(100, {.threads = 2, .frozen = {{0, 3}, {40, 50}, {99, 100}}}, 1, 1);
  for (size_t i = 0; i < 100; ++i) {
    const bool frozen = i < 3 || (i >= 40 && i < 50) || i == 99;
    EXPECT_EQ(some[i], frozen ? before[i] : all[i]) << i;
    EXPECT_NE(all[i], before[i]) << i;
  }
}

TEST_P(OptimizerKinds, StateHandedOver_GoesOnAsItWouldHave) {
  const auto optimizer = Create(GetParam(), 20);
  ASSERT_OK(optimizer.status());
  std::vector<float> whole = Waves(20, 1);
  const std::vector<float> gradients = Waves(20, 2);
  const auto step = [&](LocalOptimizer* with, std::vector<float>* parameters) {
    with->Step(0.7, gradients, absl::MakeSpan(*parameters));
  };
  for (int i = 0; i < 3; ++i) step(optimizer->get(), &whole);

  std::vector<float> resumed = whole;
  const auto other = Create(GetParam(), 20);
  ASSERT_OK(other.status());
  const auto from = (*optimizer)->state();
  const auto to = (*other)->state();
  ASSERT_EQ(from.size(), to.size());
  for (size_t i = 0; i < from.size(); ++i) {
    ASSERT_EQ(to[i].size(), 20u);
    std::copy(from[i].begin(), from[i].end(), to[i].begin());
  }
  (*other)->set_steps((*optimizer)->steps());
  for (int i = 0; i < 3; ++i) {
    step(optimizer->get(), &whole);
    step(other->get(), &resumed);
  }
  EXPECT_EQ(whole, resumed);
  EXPECT_EQ((*other)->steps(), 6);
}

INSTANTIATE_TEST_SUITE_P(
    All, OptimizerKinds,
    testing::Values("sgd { weight_decay: 0.1 }",
                    "sgd { momentum: 0.9 weight_decay: 0.1 }",
                    "sgd { momentum: 0.9 nesterov: true }",
                    "adam { weight_decay: 0.1 }",
                    "adamw { weight_decay: 0.1 }"));

TEST(AddProximalTerm, Drift_PullsBack) {
  const float parameters[] = {2, 5};
  const float global[] = {1, 7};
  float gradients[] = {10, 10};
  AddProximalTerm(0.5, parameters, global, absl::MakeSpan(gradients));
  EXPECT_THAT(gradients, ElementsAre(10.5f, 9.0f));
}

TEST(LearningRate, SpecOrDefault_IsTold) {
  const auto rate = [](const char* text) {
    const auto optimizer = Create(text, 1);
    return optimizer.ok() ? (*optimizer)->learning_rate() : -1;
  };
  EXPECT_EQ(rate(""), 0.1);
  EXPECT_EQ(rate("sgd { learning_rate: 0.25 }"), 0.25);
  EXPECT_EQ(rate("adam {}"), 0.001);
}

TEST(ControlCorrection, ServerMinusOwn_MayReplaceOwn) {
  const float server[] = {1, -2};
  float own[] = {0.5f, 4};
  ControlCorrection(server, own, absl::MakeSpan(own));
  EXPECT_THAT(own, ElementsAre(0.5f, -6.0f));
  float gradients[] = {10, 10};
  AddCorrection(own, absl::MakeSpan(gradients));
  EXPECT_THAT(gradients, ElementsAre(10.5f, 4.0f));
}

// Steps of y <- y - rate (g - c_i + c) with constant g and changing rates: the
// new c_i is g, whatever c_i and c were.
TEST(ControlDifference, ConstantGradient_BecomesTheControlVariate) {
  const float server[] = {0.25f, -1};
  const float own[] = {-0.5f, 2};
  const float gradient[] = {3, -4};
  const float before[] = {1, 1};
  float after[] = {1, 1};
  double rates = 0;
  for (const double rate : {0.5, 0.25, 0.125}) {
    for (int i = 0; i < 2; ++i) {
      after[i] -= static_cast<float>(rate) * (gradient[i] - own[i] + server[i]);
    }
    rates += rate;
  }
  float difference[2];
  ControlDifference(before, after, server, rates, absl::MakeSpan(difference));
  // Powers of two: exact up to the division by 0.875.
  EXPECT_NEAR(own[0] + difference[0], gradient[0], 1e-6);
  EXPECT_NEAR(own[1] + difference[1], gradient[1], 1e-6);
}

}  // namespace
}  // namespace koinon::kernels
