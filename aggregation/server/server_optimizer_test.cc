#include "aggregation/server/server_optimizer.h"

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/random.h"
#include "base/status_matchers.h"

namespace koinon::aggregation {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

v1::ServerOptimizer Spec(const std::string& text) {
  v1::ServerOptimizer spec;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &spec))
      << text;
  return spec;
}

std::unique_ptr<ServerOptimizer> Make(const std::string& text) {
  auto optimizer = MakeServerOptimizer(Spec(text));
  EXPECT_OK(optimizer) << text;
  return *std::move(optimizer);
}

// Some parameters with the optimizer's state: what a job keeps.
class Server {
 public:
  Server(const std::string& text, size_t n) : optimizer_(Make(text)), n_(n) {
    for (size_t i = 0; i < optimizer_->state_names().size(); ++i) {
      state_.emplace_back(n, optimizer_->InitialState(i));
    }
  }

  // What is to be added to the model. `cut`: elements of a call.
  std::vector<float> Step(std::vector<float> delta, size_t cut = 1 << 20) {
    EXPECT_EQ(delta.size(), n_);
    ++step_;
    for (size_t at = 0; at < n_; at += cut) {
      std::vector<float*> state;
      for (auto& vector : state_) state.push_back(vector.data() + at);
      optimizer_->Step(
          step_, absl::MakeSpan(delta).subspan(at, std::min(cut, n_ - at)),
          state);
    }
    return delta;
  }

  const std::vector<std::vector<float>>& state() const { return state_; }

 private:
  std::unique_ptr<ServerOptimizer> optimizer_;
  const size_t n_;
  int64_t step_ = 0;
  std::vector<std::vector<float>> state_;
};

// --- Published vectors: ../shared/vectors/robust.json, "server_optimizers" ---

// The model after steps of the negated gradient `g`, from `x`.
std::vector<double> Path(const std::string& text, double x, double g, int n) {
  Server server(text, 1);
  std::vector<double> path;
  for (int i = 0; i < n; ++i) {
    x += server.Step({static_cast<float>(-g)})[0];
    path.push_back(x);
  }
  return path;
}

void ExpectPath(const std::vector<double>& path,
                const std::vector<double>& expected, double tolerance) {
  ASSERT_EQ(path.size(), expected.size());
  for (size_t i = 0; i < path.size(); ++i) {
    EXPECT_NEAR(path[i], expected[i], tolerance) << "step " << i + 1;
  }
}

// Flower's fedadagrad_test.py: mean 0.6 from 0.1 with eta 0.1 and tau 0.5.
TEST(ServerOptimizerTest, FlowerFedAdagrad_GivesFlowersNumber) {
  ExpectPath(Path("fedadagrad { variant: FLOWER learning_rate: 0.1 tau: 0.5 }",
                  0.1, -(0.6 - 0.1), 1),
             {0.15}, 1e-7);
}

// Flower's fedavgm_test.py: without momentum it is the mean, (1 + 2 3) / 3.
TEST(ServerOptimizerTest, FedAvgMWithoutMomentum_AddsTheMean) {
  ExpectPath(Path("fedavgm { learning_rate: 1 momentum: 0 }", 0, -7.0 / 3, 1),
             {2.3333333333}, 1e-6);
}

// TensorFlow Federated's adam_test.py; the file gives 1e-4 as its tolerance.
TEST(ServerOptimizerTest, TffAdam_GivesTffsNumbers) {
  ExpectPath(Path("fedadam { variant: TFF learning_rate: 0.1 }", 1, 2, 4),
             {0.9000007, 0.8000017, 0.700002, 0.600003}, 1e-4);
}

// TensorFlow Federated's adagrad_test.py begins from v = 0 and without epsilon,
// which is FLOWER's form with a tau that vanishes.
TEST(ServerOptimizerTest, AdagradFromZero_GivesTffsNumbers) {
  ExpectPath(
      Path("fedadagrad { variant: FLOWER learning_rate: 0.01 tau: 1e-12 }", 1,
           2, 4),
      {0.99, 0.9829289, 0.9771554, 0.9721554}, 1e-6);
}

// TensorFlow Federated's sgdm_test.py.
TEST(ServerOptimizerTest, FedAvgM_GivesTffsNumbers) {
  ExpectPath(Path("fedavgm { learning_rate: 0.01 momentum: 0.5 }", 1, 2, 4),
             {0.98, 0.95, 0.915, 0.8775}, 1e-6);
}

// --- By hand ---

TEST(ServerOptimizerTest, Nesterov_LooksAhead) {
  // m = 1, then 1.5: eta (delta + beta m).
  ExpectPath(Path("fedavgm { learning_rate: 1 momentum: 0.5 nesterov: true }",
                  0, -1, 2),
             {1.5, 1.5 + 1.75}, 1e-6);
}

TEST(ServerOptimizerTest, Diloco_IsNesterovWithItsDefaults) {
  ExpectPath(Path("diloco {}", 0, -1, 2),
             {0.7 * 1.9, 0.7 * 1.9 + 0.7 * (1 + 0.9 * 1.9)}, 1e-6);
}

TEST(ServerOptimizerTest, PaperAdam_BeginsFromTauSquaredWithoutCorrection) {
  const double v = 0.99 * 1e-6 + 0.01 * 0.25;
  ExpectPath(Path("fedadam {}", 0, -0.5, 1),
             {0.01 * 0.05 / (std::sqrt(v) + 1e-3)}, 1e-9);
}

// Flower's exponent is the 1-based round plus one.
TEST(ServerOptimizerTest, FlowerAdam_CorrectsWithTheSquareInStepOne) {
  const double rate = 0.1 * std::sqrt(1 - 0.99 * 0.99) / (1 - 0.81);
  ExpectPath(Path("fedadam { variant: FLOWER }", 0, -0.5, 1),
             {rate * 0.05 / (std::sqrt(0.01 * 0.25) + 1e-3)}, 1e-7);
}

TEST(ServerOptimizerTest, TffAdagrad_HasItsEpsilonUnderTheRoot) {
  ExpectPath(
      Path("fedadagrad { variant: TFF learning_rate: 1 tau: 3 }", 0, -2, 1),
      {2 / std::sqrt(0.1 + 4 + 3)}, 1e-6);
}

TEST(ServerOptimizerTest, Yogi_SignOfZeroIsZero) {
  // v = delta^2 exactly, so that v stays.
  Server server("fedyogi { tau: 0.5 }", 1);
  server.Step({0.5f});
  EXPECT_EQ(server.state()[0][0], 0.25f);
  // Below and above it.
  server.Step({1.0f});
  EXPECT_FLOAT_EQ(server.state()[0][0], 0.25f + 0.01f);
  server.Step({0.1f});
  EXPECT_FLOAT_EQ(server.state()[0][0], 0.26f - 0.01f * 0.01f);
}

TEST(ServerOptimizerTest, ZeroAggregate_MovesNothingAtFirst) {
  for (const char* text :
       {"fedavgm {}", "diloco {}", "fedadagrad {}", "fedadam {}", "fedyogi {}",
        "fedadam { variant: FLOWER }",
        "fedyogi { variant: TFF learning_rate: "
        "1 }"}) {
    EXPECT_THAT(Server(text, 2).Step({0, -0.0f}), ElementsAre(0, 0)) << text;
  }
}

// --- The reference: one parameter, in long double, straight from the text ---

struct Reference {
  // As the messages' fields, with the variant's defaults written out.
  std::string kind;
  long double eta = 0, beta1 = 0, beta2 = 0, tau = 0;
  float v = 0, m = 0;
  int correction = -1;  // added to the step for the exponent; -1: none
  bool inside = false;
  bool nesterov = false;

  float Step(int64_t t, float delta) {
    const long double d = delta;
    if (kind == "fedavgm") {
      const long double moment = beta1 * m + d;
      m = static_cast<float>(moment);
      return static_cast<float>(eta * (nesterov ? d + beta1 * moment : moment));
    }
    const long double moment = beta1 * m + (1 - beta1) * d;
    long double square = 0;
    if (kind == "fedadagrad") square = v + d * d;
    if (kind == "fedadam") square = beta2 * v + (1 - beta2) * d * d;
    if (kind == "fedyogi") {
      const long double difference = v - d * d;
      const int sign = difference > 0 ? 1 : difference < 0 ? -1 : 0;
      square = v - (1 - beta2) * d * d * sign;
    }
    m = static_cast<float>(moment);
    v = static_cast<float>(square);
    long double rate = eta;
    if (correction >= 0) {
      const auto e = static_cast<long double>(t + correction);
      rate *= std::sqrt(1 - std::pow(beta2, e)) / (1 - std::pow(beta1, e));
    }
    return static_cast<float>(
        rate * moment /
        (inside ? std::sqrt(square + tau) : std::sqrt(square) + tau));
  }
};

// Both round to fp32 once a step, from results that differ by a few roundings
// of a double: so by at most one fp32 number, and the state with it. What that
// does to later steps stays below 4 of them for these decays.
void ExpectClose(float a, float b, const std::string& what) {
  EXPECT_LE(std::abs(a - b),
            4 * std::numeric_limits<float>::epsilon() * std::abs(b) +
                std::numeric_limits<float>::denorm_min())
      << what << ": " << a << " and " << b;
}

void ExpectAsReference(const std::string& text, const Reference& reference) {
  constexpr size_t kParameters = 300;
  constexpr uint64_t kSeed = 20;
  Random random(kSeed);
  Server server(text, kParameters);
  std::vector<Reference> references(kParameters, reference);
  for (int64_t t = 1; t <= 40; ++t) {
    std::vector<float> delta(kParameters);
    for (size_t i = 0; i < kParameters; ++i) {
      // Magnitudes from 1e-12 to 1e3.
      delta[i] = static_cast<float>(
          random.NextNormal() * std::pow(10, static_cast<double>(i % 16) - 12));
      if (i % 7 == static_cast<size_t>(t % 7)) delta[i] = 0;
    }
    const std::vector<float> step = server.Step(delta);
    for (size_t i = 0; i < kParameters; ++i) {
      ExpectClose(
          step[i], references[i].Step(t, delta[i]),
          absl::StrCat(text, " seed ", kSeed, " step ", t, " parameter ", i));
    }
    if (testing::Test::HasFailure()) return;
  }
}

TEST(ServerOptimizerTest, RandomAggregates_AgreeWithTheReference) {
  // Where a sum may cancel, moments are compared through steps of one sign
  // only; beta1 = 0 and fedavgm without momentum leave nothing to cancel.
  Reference r;
  r = {.kind = "fedadam", .eta = 0.01, .beta2 = 0.99, .tau = 1e-3};
  r.v = 1e-6f;
  ExpectAsReference("fedadam { beta1: 0 }", r);
  r = {.kind = "fedadagrad", .eta = 0.1, .tau = 1e-3};
  r.v = 1e-6f;
  ExpectAsReference("fedadagrad { beta1: 0 }", r);
  r = {.kind = "fedyogi", .eta = 0.01, .beta2 = 0.99, .tau = 1e-3};
  r.v = 1e-6f;
  ExpectAsReference("fedyogi { beta1: 0 }", r);
  r = {.kind = "fedadam", .eta = 0.1, .beta2 = 0.99, .tau = 1e-3};
  r.correction = 1;
  ExpectAsReference("fedadam { variant: FLOWER beta1: 0 }", r);
  r = {.kind = "fedadagrad", .eta = 0.1, .tau = 1e-3};
  ExpectAsReference("fedadagrad { variant: FLOWER }", r);
  r = {.kind = "fedyogi", .eta = 0.01, .beta2 = 0.99, .tau = 1e-3};
  ExpectAsReference("fedyogi { variant: FLOWER beta1: 0 }", r);
  r = {.kind = "fedadam", .eta = 0.3, .beta2 = 0.999, .tau = 1e-7};
  r.correction = 0;
  ExpectAsReference("fedadam { variant: TFF learning_rate: 0.3 beta1: 0 }", r);
  r = {.kind = "fedyogi", .eta = 0.3, .beta2 = 0.999, .tau = 1e-3};
  r.v = 1e-6f;
  r.correction = 0;
  ExpectAsReference("fedyogi { variant: TFF learning_rate: 0.3 beta1: 0 }", r);
  r = {.kind = "fedadagrad", .eta = 0.3, .tau = 1e-7};
  r.v = 0.1f;
  r.inside = true;
  ExpectAsReference("fedadagrad { variant: TFF learning_rate: 0.3 }", r);
}

// With momentum the error is measured against the largest moment so far: sums
// of both signs cancel.
TEST(ServerOptimizerTest, RandomAggregatesWithMomentum_AgreeWithTheReference) {
  struct Case {
    const char* text;
    Reference reference;
  };
  Reference adam = {.kind = "fedadam", .eta = 0.01, .beta1 = 0.9};
  adam.beta2 = 0.99;
  adam.tau = 1e-3;
  adam.v = 1e-6f;
  Reference flower = adam;
  flower.eta = 0.1;
  flower.v = 0;
  flower.correction = 1;
  Reference tff = adam;
  tff.eta = 0.3;
  tff.beta2 = 0.999;
  tff.tau = 1e-7;
  tff.v = 0;
  tff.correction = 0;
  Reference adagrad = adam;
  adagrad.kind = "fedadagrad";
  adagrad.eta = 0.1;
  Reference yogi = adam;
  yogi.kind = "fedyogi";
  Reference momentum = {.kind = "fedavgm", .eta = 1, .beta1 = 0.9};
  Reference nesterov = momentum;
  nesterov.nesterov = true;
  Reference diloco = nesterov;
  diloco.eta = 0.7;
  const std::vector<Case> cases = {
      {"fedadam {}", adam},
      {"fedadam { variant: FLOWER }", flower},
      {"fedadam { variant: TFF learning_rate: 0.3 }", tff},
      {"fedadagrad {}", adagrad},
      {"fedyogi {}", yogi},
      {"fedavgm {}", momentum},
      {"fedavgm { nesterov: true }", nesterov},
      {"diloco {}", diloco}};
  for (const Case& c : cases) {
    constexpr uint64_t kSeed = 21;
    Random random(kSeed);
    Server server(c.text, 1);
    Reference reference = c.reference;
    double largest = 0;
    for (int64_t t = 1; t <= 200; ++t) {
      const auto delta = static_cast<float>(random.NextNormal());
      const float step = server.Step({delta})[0];
      const float expected = reference.Step(t, delta);
      largest = std::max<double>(largest, std::abs(expected));
      // Each of the 1 / (1 - beta1) = 10 steps that count adds a rounding.
      EXPECT_NEAR(step, expected,
                  10 * std::numeric_limits<float>::epsilon() * largest)
          << c.text << " seed " << kSeed << " step " << t;
    }
  }
}

// --- What every optimizer owes ---

TEST(ServerOptimizerTest, AnySplitIntoCalls_GivesTheSameBytes) {
  constexpr size_t kParameters = 1000;
  for (const char* text :
       {"fedavgm { nesterov: true }", "fedadam {}",
        "fedyogi { variant: TFF learning_rate: 0.1 }", "fedadagrad {}"}) {
    Server whole(text, kParameters);
    Server parts(text, kParameters);
    Random random(22);
    for (int t = 0; t < 3; ++t) {
      std::vector<float> delta(kParameters);
      for (float& x : delta) x = static_cast<float>(random.NextNormal());
      const std::vector<float> a = whole.Step(delta);
      const std::vector<float> b = parts.Step(delta, 7);
      EXPECT_EQ(std::memcmp(a.data(), b.data(), kParameters * sizeof(float)), 0)
          << text;
    }
    EXPECT_EQ(whole.state(), parts.state()) << text;
  }
}

// 0.1 is a double a little above 1/10: 10 of it round to 1, which is then
// taken away. A fused multiply-add would leave 2^-54.
TEST(ServerOptimizerTest, ProductsAndSums_AreRoundedApart) {
  ASSERT_NE(std::fma(0.1, 10.0, -1.0), 0);
  Server server("fedavgm { learning_rate: 1 momentum: 0.1 }", 1);
  EXPECT_EQ(server.Step({10})[0], 10);
  EXPECT_EQ(server.Step({-1})[0], 0);
}

TEST(ServerOptimizerTest, StateNames_AreThoseThatAreNeeded) {
  EXPECT_THAT(Make("fedavgm {}")->state_names(), ElementsAre("momentum"));
  EXPECT_THAT(Make("fedavgm { momentum: 0 }")->state_names(), IsEmpty());
  EXPECT_THAT(Make("diloco {}")->state_names(), ElementsAre("momentum"));
  EXPECT_THAT(Make("fedadam {}")->state_names(),
              ElementsAre("second_moment", "momentum"));
  EXPECT_THAT(Make("fedadam { beta1: 0 }")->state_names(),
              ElementsAre("second_moment"));
  EXPECT_THAT(Make("fedadagrad { variant: FLOWER }")->state_names(),
              ElementsAre("second_moment"));
  EXPECT_EQ(Make("fedyogi { tau: 0.25 }")->InitialState(0), 0.0625f);
  EXPECT_EQ(Make("fedyogi {}")->InitialState(1), 0);
  EXPECT_EQ(Make("fedyogi {}")->name(), "fedyogi");
  EXPECT_EQ(Make("diloco {}")->name(), "diloco");
}

TEST(ServerOptimizerTest, NothingSet_IsNone) {
  ASSERT_OK_AND_ASSIGN(const auto none, MakeServerOptimizer({}));
  EXPECT_EQ(none, nullptr);
}

TEST(ServerOptimizerTest, BadOptions_NameFieldValueAndWhatIsAllowed) {
  struct Case {
    const char* text;
    const char* field;
    const char* why;
  };
  const std::vector<Case> cases = {
      {"fedavgm { learning_rate: -1 }", "fedavgm.learning_rate is -1", "> 0"},
      {"fedavgm { learning_rate: nan }", "fedavgm.learning_rate is nan", "> 0"},
      {"fedavgm { learning_rate: inf }", "fedavgm.learning_rate is inf", "> 0"},
      {"fedavgm { momentum: 1 }", "fedavgm.momentum is 1", "[0, 1)"},
      {"fedavgm { momentum: -0.1 }", "fedavgm.momentum is -0.1", "[0, 1)"},
      {"fedavgm { momentum: nan }", "fedavgm.momentum is nan", "[0, 1)"},
      {"fedavgm { momentum: 0 nesterov: true }", "fedavgm.nesterov is set",
       "fedavgm.momentum is 0"},
      {"diloco { learning_rate: -0.7 }", "diloco.learning_rate is -0.7", "0.7"},
      {"diloco { momentum: 2 }", "diloco.momentum is 2", "[0, 1)"},
      {"diloco { momentum: 0 }", "diloco.momentum is 0", "(0, 1)"},
      {"fedadam { beta1: 1 }", "fedadam.beta1 is 1", "[0, 1)"},
      {"fedadam { beta2: 1.5 }", "fedadam.beta2 is 1.5", "[0, 1)"},
      {"fedadam { tau: -1 }", "fedadam.tau is -1", "> 0"},
      {"fedadam { tau: 1e30 }", "fedadam.tau is 1e+30", "at most"},
      {"fedyogi { learning_rate: nan }", "fedyogi.learning_rate is nan", "> 0"},
      {"fedadagrad { beta2: 0.9 }", "fedadagrad.beta2 is set",
       "PAPER has no such option"},
      {"fedadagrad { variant: FLOWER beta1: 0.9 }", "fedadagrad.beta1 is set",
       "FLOWER has no such option"},
      {"fedadagrad { variant: TFF learning_rate: 1 beta1: 0.9 }",
       "fedadagrad.beta1 is set", "TFF has no such option"},
      {"fedadam { variant: TFF }", "fedadam.learning_rate is not set",
       "TFF has no default"},
  };
  for (const Case& c : cases) {
    EXPECT_THAT(MakeServerOptimizer(Spec(c.text)),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr(absl::StrCat(
                                   "aggregation.server_optimizer.", c.field)),
                               HasSubstr(c.why))))
        << c.text;
  }
  v1::ServerOptimizer unknown;
  unknown.mutable_fedadam()->set_variant(
      static_cast<v1::ServerOptimizer::Adaptive::Variant>(9));
  EXPECT_THAT(MakeServerOptimizer(unknown),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("fedadam.variant is number 9"),
                             HasSubstr("PAPER, FLOWER or TFF"))));
}

}  // namespace
}  // namespace koinon::aggregation
