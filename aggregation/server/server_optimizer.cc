#include "aggregation/server/server_optimizer.h"

#include <cmath>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status_macros.h"

// Each element is computed in double from fp32 state and rounded once on the
// way out. The package is compiled without contraction to fused multiply-adds:
// products, sums, square roots and quotients are IEEE's on every machine.

namespace koinon::aggregation {
namespace {

using Adaptive = v1::ServerOptimizer::Adaptive;

constexpr double kDefaultMomentum = 0.9;
// Its square is a state's initial value, which is fp32.
constexpr double kMaxTau = 1e18;

// m <- beta m + delta; delta <- eta m, or eta (delta + beta m). The papers keep
// m for the pseudo-gradient g = -delta: the same with its sign turned.
class Momentum final : public ServerOptimizer {
 public:
  Momentum(std::string name, double learning_rate, double momentum,
           bool nesterov)
      : name_(std::move(name)),
        learning_rate_(learning_rate),
        momentum_(momentum),
        nesterov_(nesterov) {}

  std::string name() const override { return name_; }
  std::vector<std::string> state_names() const override {
    if (momentum_ == 0) return {};
    return {"momentum"};
  }
  float InitialState(size_t) const override { return 0; }

  void Step(int64_t, absl::Span<float> delta,
            absl::Span<float* const> state) const override {
    if (momentum_ == 0) {
      for (float& x : delta) x = static_cast<float>(learning_rate_ * x);
      return;
    }
    float* const moments = state[0];
    for (size_t i = 0; i < delta.size(); ++i) {
      const double m = momentum_ * moments[i] + delta[i];
      const double direction = nesterov_ ? delta[i] + momentum_ * m : m;
      moments[i] = static_cast<float>(m);
      delta[i] = static_cast<float>(learning_rate_ * direction);
    }
  }

 private:
  const std::string name_;
  const double learning_rate_;
  const double momentum_;
  const bool nesterov_;
};

enum class SecondMoment { kAdagrad, kAdam, kYogi };

// Reddi et al. 2021, algorithm 2, with what its implementations do otherwise.
struct AdaptiveRule {
  std::string name;
  SecondMoment second_moment = SecondMoment::kAdam;
  double learning_rate = 0;
  double beta1 = 0;
  double beta2 = 0;
  double tau = 0;
  double initial = 0;  // v before the first step
  // eta sqrt(1 - beta2^e) / (1 - beta1^e) in place of eta, where e is the step
  // plus this.
  std::optional<int64_t> bias_correction;
  bool tau_inside_root = false;  // sqrt(v + tau) in place of sqrt(v) + tau
};

template <SecondMoment kSecondMoment>
double NextSecondMoment(double v, double square, double beta2) {
  switch (kSecondMoment) {
    case SecondMoment::kAdagrad:
      return v + square;
    case SecondMoment::kAdam:
      return beta2 * v + (1 - beta2) * square;
    case SecondMoment::kYogi: {
      const double sign =
          static_cast<double>(v > square) - static_cast<double>(v < square);
      return v - (1 - beta2) * square * sign;
    }
  }
}

class AdaptiveOptimizer final : public ServerOptimizer {
 public:
  explicit AdaptiveOptimizer(AdaptiveRule rule) : rule_(std::move(rule)) {}

  std::string name() const override { return rule_.name; }
  // Without momentum m is the aggregate itself.
  std::vector<std::string> state_names() const override {
    if (rule_.beta1 == 0) return {"second_moment"};
    return {"second_moment", "momentum"};
  }
  float InitialState(size_t i) const override {
    return i == 0 ? static_cast<float>(rule_.initial) : 0;
  }

  void Step(int64_t step, absl::Span<float> delta,
            absl::Span<float* const> state) const override {
    KOINON_CHECK(step >= 1);
    switch (rule_.second_moment) {
      case SecondMoment::kAdagrad:
        return StepBy<SecondMoment::kAdagrad>(step, delta, state);
      case SecondMoment::kAdam:
        return StepBy<SecondMoment::kAdam>(step, delta, state);
      case SecondMoment::kYogi:
        return StepBy<SecondMoment::kYogi>(step, delta, state);
    }
  }

 private:
  double LearningRate(int64_t step) const {
    if (!rule_.bias_correction.has_value()) return rule_.learning_rate;
    const int64_t exponent = step + *rule_.bias_correction;
    return rule_.learning_rate * std::sqrt(1 - Power(rule_.beta2, exponent)) /
           (1 - Power(rule_.beta1, exponent));
  }

  // By squaring: std::pow may differ between C libraries.
  static double Power(double base, int64_t exponent) {
    double power = 1;
    for (; exponent > 0; exponent >>= 1, base *= base) {
      if (exponent & 1) power *= base;
    }
    return power;
  }

  template <SecondMoment kSecondMoment>
  void StepBy(int64_t step, absl::Span<float> delta,
              absl::Span<float* const> state) const {
    const double learning_rate = LearningRate(step);
    const double beta1 = rule_.beta1;
    const double beta2 = rule_.beta2;
    const double inside = rule_.tau_inside_root ? rule_.tau : 0;
    const double outside = rule_.tau_inside_root ? 0 : rule_.tau;
    float* const squares = state[0];
    float* const moments = beta1 == 0 ? nullptr : state[1];
    for (size_t i = 0; i < delta.size(); ++i) {
      const double x = delta[i];
      double m = x;
      if (moments != nullptr) {
        m = beta1 * moments[i] + (1 - beta1) * x;
        moments[i] = static_cast<float>(m);
      }
      const double v =
          NextSecondMoment<kSecondMoment>(squares[i], x * x, beta2);
      squares[i] = static_cast<float>(v);
      delta[i] = static_cast<float>(learning_rate * m /
                                    (std::sqrt(v + inside) + outside));
    }
  }

  const AdaptiveRule rule_;
};

// "aggregation.server_optimizer.fedadam.tau"
std::string Field(const std::string& kind, const std::string& field) {
  return absl::StrCat("aggregation.server_optimizer.", kind, ".", field);
}

absl::StatusOr<double> PositiveOr(const std::string& field, double value,
                                  double fallback) {
  if (value == 0) return fallback;
  if (std::isfinite(value) && value > 0) return value;
  return absl::InvalidArgumentError(absl::StrCat(
      field, " is ", value, ", expected a number > 0 (0: ", fallback, ")"));
}

absl::Status CheckDecay(const std::string& field, double value) {
  if (value >= 0 && value < 1) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, " is ", value, ", expected a number in [0, 1)"));
}

absl::StatusOr<std::unique_ptr<ServerOptimizer>> MakeMomentum(
    const std::string& kind, double learning_rate, double default_rate,
    double momentum, bool nesterov) {
  ABSL_ASSIGN_OR_RETURN(learning_rate, PositiveOr(Field(kind, "learning_rate"),
                                                  learning_rate, default_rate));
  ABSL_RETURN_IF_ERROR(CheckDecay(Field(kind, "momentum"), momentum));
  return std::make_unique<Momentum>(kind, learning_rate, momentum, nesterov);
}

absl::StatusOr<std::unique_ptr<ServerOptimizer>> MakeFedAvgM(
    const v1::ServerOptimizer::FedAvgM& spec) {
  const double momentum =
      spec.has_momentum() ? spec.momentum() : kDefaultMomentum;
  if (spec.nesterov() && momentum == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(Field("fedavgm", "nesterov"), " is set, but ",
                     Field("fedavgm", "momentum"), " is 0: set one of them"));
  }
  return MakeMomentum("fedavgm", spec.learning_rate(), 1, momentum,
                      spec.nesterov());
}

absl::StatusOr<std::unique_ptr<ServerOptimizer>> MakeDiloco(
    const v1::ServerOptimizer::Diloco& spec) {
  if (spec.has_momentum() && spec.momentum() == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(Field("diloco", "momentum"),
                     " is 0, expected a number in (0, 1): without momentum "
                     "there is nothing for Nesterov's step to look ahead to"));
  }
  return MakeMomentum("diloco", spec.learning_rate(), 0.7,
                      spec.has_momentum() ? spec.momentum() : kDefaultMomentum,
                      /*nesterov=*/true);
}

// What a variant has where the job names nothing. Fields that the variant does
// not have are absent.
struct Defaults {
  std::optional<double> learning_rate;
  std::optional<double> beta1;
  std::optional<double> beta2;
  double tau = 0;
  double initial = 0;
  std::optional<int64_t> bias_correction;
  bool tau_inside_root = false;
};

// docs/aggregation.md has the table and its sources. Neither the paper nor TFF
// has a default for the learning rate; that of PAPER is Koinon's.
Defaults DefaultsOf(SecondMoment kind, Adaptive::Variant variant, double tau) {
  const bool adagrad = kind == SecondMoment::kAdagrad;
  Defaults defaults;
  switch (variant) {
    case Adaptive::FLOWER:
      defaults.learning_rate = kind == SecondMoment::kYogi ? 0.01 : 0.1;
      if (!adagrad) defaults.beta1 = 0.9;
      if (!adagrad) defaults.beta2 = 0.99;
      defaults.tau = 1e-3;
      if (kind == SecondMoment::kAdam) defaults.bias_correction = 1;
      return defaults;
    case Adaptive::TFF:
      if (adagrad) {
        defaults.tau = 1e-7;
        defaults.initial = 0.1;
        defaults.tau_inside_root = true;
        return defaults;
      }
      defaults.beta1 = 0.9;
      defaults.beta2 = 0.999;
      defaults.tau = kind == SecondMoment::kAdam ? 1e-7 : 1e-3;
      defaults.initial = kind == SecondMoment::kAdam ? 0 : 1e-6;
      defaults.bias_correction = 0;
      return defaults;
    default:  // PAPER
      defaults.learning_rate = adagrad ? 0.1 : 0.01;
      defaults.beta1 = 0.9;
      if (!adagrad) defaults.beta2 = 0.99;
      defaults.tau = 1e-3;
      defaults.initial = tau > 0 ? tau * tau : defaults.tau * defaults.tau;
      return defaults;
  }
}

absl::StatusOr<double> DecayOr(const std::string& field,
                               const std::string& variant,
                               std::optional<double> value,
                               std::optional<double> fallback) {
  if (!value.has_value()) return fallback.value_or(0);
  if (!fallback.has_value()) {
    return absl::InvalidArgumentError(absl::StrCat(
        field, " is set, but variant ", variant, " has no such option"));
  }
  ABSL_RETURN_IF_ERROR(CheckDecay(field, *value));
  return *value;
}

absl::StatusOr<std::unique_ptr<ServerOptimizer>> MakeAdaptive(
    const std::string& kind, SecondMoment second_moment, const Adaptive& spec) {
  Adaptive::Variant variant = spec.variant();
  if (variant == Adaptive::VARIANT_UNSPECIFIED) variant = Adaptive::PAPER;
  if (!Adaptive::Variant_IsValid(variant)) {
    return absl::InvalidArgumentError(
        absl::StrCat(Field(kind, "variant"), " is number ", spec.variant(),
                     ", expected PAPER, FLOWER or TFF"));
  }
  const std::string variant_name = Adaptive::Variant_Name(variant);
  const Defaults defaults = DefaultsOf(second_moment, variant, spec.tau());
  AdaptiveRule rule;
  rule.name = kind;
  rule.second_moment = second_moment;
  rule.initial = defaults.initial;
  rule.bias_correction = defaults.bias_correction;
  rule.tau_inside_root = defaults.tau_inside_root;
  if (spec.learning_rate() == 0 && !defaults.learning_rate.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat(Field(kind, "learning_rate"), " is not set, and variant ",
                     variant_name, " has no default for it"));
  }
  ABSL_ASSIGN_OR_RETURN(
      rule.learning_rate,
      PositiveOr(Field(kind, "learning_rate"), spec.learning_rate(),
                 defaults.learning_rate.value_or(0)));
  ABSL_ASSIGN_OR_RETURN(
      rule.tau, PositiveOr(Field(kind, "tau"), spec.tau(), defaults.tau));
  if (rule.tau > kMaxTau) {
    return absl::InvalidArgumentError(absl::StrCat(
        Field(kind, "tau"), " is ", rule.tau, ", expected at most ", kMaxTau));
  }
  const auto set = [](bool has, double value) {
    return has ? std::optional<double>(value) : std::nullopt;
  };
  ABSL_ASSIGN_OR_RETURN(
      rule.beta1, DecayOr(Field(kind, "beta1"), variant_name,
                          set(spec.has_beta1(), spec.beta1()), defaults.beta1));
  ABSL_ASSIGN_OR_RETURN(
      rule.beta2, DecayOr(Field(kind, "beta2"), variant_name,
                          set(spec.has_beta2(), spec.beta2()), defaults.beta2));
  return std::make_unique<AdaptiveOptimizer>(std::move(rule));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ServerOptimizer>> MakeServerOptimizer(
    const v1::ServerOptimizer& spec) {
  switch (spec.kind_case()) {
    case v1::ServerOptimizer::KIND_NOT_SET:
      return std::unique_ptr<ServerOptimizer>();
    case v1::ServerOptimizer::kFedavgm:
      return MakeFedAvgM(spec.fedavgm());
    case v1::ServerOptimizer::kFedadagrad:
      return MakeAdaptive("fedadagrad", SecondMoment::kAdagrad,
                          spec.fedadagrad());
    case v1::ServerOptimizer::kFedadam:
      return MakeAdaptive("fedadam", SecondMoment::kAdam, spec.fedadam());
    case v1::ServerOptimizer::kFedyogi:
      return MakeAdaptive("fedyogi", SecondMoment::kYogi, spec.fedyogi());
    case v1::ServerOptimizer::kDiloco:
      return MakeDiloco(spec.diloco());
  }
  return absl::InvalidArgumentError(
      absl::StrCat("aggregation.server_optimizer is number ", spec.kind_case(),
                   ", expected fedavgm, fedadagrad, fedadam, fedyogi or "
                   "diloco"));
}

}  // namespace koinon::aggregation
