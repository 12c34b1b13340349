#include "kernels/optimizer.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "base/status_macros.h"

namespace koinon::kernels {
namespace {

absl::Status CheckFinite(absl::string_view field, double value, double low,
                         const char* allowed) {
  if (std::isfinite(value) && value >= low) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("%s: expected %s, found %g", field, allowed, value));
}

absl::Status CheckFraction(absl::string_view field, double value) {
  if (value >= 0 && value < 1) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("%s: expected [0, 1), found %g", field, value));
}

constexpr char kNotNegative[] = "a finite number of at least 0";

double OrDefault(double value, double default_value) {
  return value == 0 ? default_value : value;
}

class SgdOptimizer final : public LocalOptimizer {
 public:
  static absl::StatusOr<std::unique_ptr<LocalOptimizer>> Create(
      const v1::Optimizer::Sgd& spec, size_t size) {
    ABSL_RETURN_IF_ERROR(CheckFinite("optimizer.sgd.learning_rate",
                                     spec.learning_rate(), 0, kNotNegative));
    ABSL_RETURN_IF_ERROR(
        CheckFraction("optimizer.sgd.momentum", spec.momentum()));
    ABSL_RETURN_IF_ERROR(CheckFinite("optimizer.sgd.weight_decay",
                                     spec.weight_decay(), 0, kNotNegative));
    if (spec.nesterov() && spec.momentum() == 0) {
      return absl::InvalidArgumentError(
          "optimizer.sgd.nesterov: expected a momentum above 0, found 0");
    }
    return std::make_unique<SgdOptimizer>(spec, size);
  }

  SgdOptimizer(const v1::Optimizer::Sgd& spec, size_t size)
      : rate_(OrDefault(spec.learning_rate(), 0.1)),
        momentum_(static_cast<float>(spec.momentum())),
        decay_(static_cast<float>(spec.weight_decay())),
        nesterov_(spec.nesterov()),
        velocity_(spec.momentum() == 0 ? 0 : size) {}

  double learning_rate() const override { return rate_; }
  void Step(double rate_factor, absl::Span<const float> gradients,
            absl::Span<float> parameters) override {
    const float rate = static_cast<float>(rate_ * rate_factor);
    if (velocity_.empty()) {
      PlainStep(rate, gradients, parameters);
    } else if (nesterov_) {
      MomentumStep<true>(rate, gradients, parameters);
    } else {
      MomentumStep<false>(rate, gradients, parameters);
    }
  }

 private:
  void PlainStep(float rate, absl::Span<const float> gradients,
                 absl::Span<float> parameters) const {
    const float* __restrict g = gradients.data();
    float* __restrict w = parameters.data();
    const float decay = decay_;
    for (size_t i = 0; i < parameters.size(); ++i) {
      w[i] -= rate * (g[i] + decay * w[i]);
    }
  }

  // v starts at 0, so that the first step sets it to the gradient.
  template <bool kNesterov>
  void MomentumStep(float rate, absl::Span<const float> gradients,
                    absl::Span<float> parameters) {
    const float* __restrict g = gradients.data();
    float* __restrict w = parameters.data();
    float* __restrict v = velocity_.data();
    const float decay = decay_, momentum = momentum_;
    for (size_t i = 0; i < parameters.size(); ++i) {
      const float decayed = g[i] + decay * w[i];
      v[i] = momentum * v[i] + decayed;
      w[i] -= rate * (kNesterov ? decayed + momentum * v[i] : v[i]);
    }
  }

  const double rate_;
  const float momentum_;
  const float decay_;
  const bool nesterov_;
  std::vector<float> velocity_;
};

// Kingma and Ba 2015; weight decay in the gradient (Adam) or on the parameters
// (AdamW).
class AdamOptimizer final : public LocalOptimizer {
 public:
  static absl::StatusOr<std::unique_ptr<LocalOptimizer>> Create(
      absl::string_view field, const v1::Optimizer::Adam& spec, bool decoupled,
      size_t size) {
    const auto name = [&](const char* part) {
      return absl::StrFormat("optimizer.%s.%s", field, part);
    };
    ABSL_RETURN_IF_ERROR(CheckFinite(name("learning_rate"),
                                     spec.learning_rate(), 0, kNotNegative));
    ABSL_RETURN_IF_ERROR(CheckFraction(name("beta1"), spec.beta1()));
    ABSL_RETURN_IF_ERROR(CheckFraction(name("beta2"), spec.beta2()));
    ABSL_RETURN_IF_ERROR(
        CheckFinite(name("epsilon"), spec.epsilon(), 0, kNotNegative));
    ABSL_RETURN_IF_ERROR(CheckFinite(name("weight_decay"), spec.weight_decay(),
                                     0, kNotNegative));
    return std::make_unique<AdamOptimizer>(spec, decoupled, size);
  }

  AdamOptimizer(const v1::Optimizer::Adam& spec, bool decoupled, size_t size)
      : rate_(OrDefault(spec.learning_rate(), 0.001)),
        beta1_(OrDefault(spec.beta1(), 0.9)),
        beta2_(OrDefault(spec.beta2(), 0.999)),
        epsilon_(OrDefault(spec.epsilon(), 1e-8)),
        decay_(spec.weight_decay()),
        decoupled_(decoupled),
        first_(size),
        second_(size) {}

  double learning_rate() const override { return rate_; }
  void Step(double rate_factor, absl::Span<const float> gradients,
            absl::Span<float> parameters) override {
    ++steps_;
    const double rate = rate_ * rate_factor;
    const double correction1 = 1 - std::pow(beta1_, steps_);
    const double correction2 = 1 - std::pow(beta2_, steps_);
    const float step = static_cast<float>(rate / correction1);
    const float root = static_cast<float>(1 / std::sqrt(correction2));
    const float beta1 = static_cast<float>(beta1_);
    const float beta2 = static_cast<float>(beta2_);
    const float rest1 = static_cast<float>(1 - beta1_);
    const float rest2 = static_cast<float>(1 - beta2_);
    const float epsilon = static_cast<float>(epsilon_);
    const float coupled = decoupled_ ? 0 : static_cast<float>(decay_);
    const float shrink =
        decoupled_ ? static_cast<float>(1 - rate * decay_) : 1.0f;
    const float* __restrict g = gradients.data();
    float* __restrict w = parameters.data();
    float* __restrict m = first_.data();
    float* __restrict v = second_.data();
    for (size_t i = 0; i < parameters.size(); ++i) {
      const float decayed = g[i] + coupled * w[i];
      m[i] = beta1 * m[i] + rest1 * decayed;
      v[i] = beta2 * v[i] + rest2 * decayed * decayed;
      w[i] = shrink * w[i] - step * m[i] / (std::sqrt(v[i]) * root + epsilon);
    }
  }

 private:
  const double rate_;
  const double beta1_;
  const double beta2_;
  const double epsilon_;
  const double decay_;
  const bool decoupled_;
  int64_t steps_ = 0;
  std::vector<float> first_;   // running mean of gradients
  std::vector<float> second_;  // and of their squares
};

// The factor `index` steps after the warm-up.
double FactorAfterWarmup(const v1::LearningRateSchedule& schedule,
                         int64_t index) {
  switch (schedule.kind_case()) {
    case v1::LearningRateSchedule::kStep:
      return std::pow(schedule.step().factor(),
                      static_cast<double>(index / schedule.step().every()));
    case v1::LearningRateSchedule::kCosine: {
      const auto& cosine = schedule.cosine();
      const double done = static_cast<double>(std::min(index, cosine.steps())) /
                          static_cast<double>(cosine.steps());
      return cosine.final_factor() +
             (1 - cosine.final_factor()) * (1 + std::cos(M_PI * done)) / 2;
    }
    case v1::LearningRateSchedule::kConstant:
    case v1::LearningRateSchedule::KIND_NOT_SET:
      break;
  }
  return 1;
}

absl::Status CheckAtLeast(absl::string_view field, int64_t value, int64_t low) {
  if (value >= low) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("%s: expected at least %d, found %d", field, low, value));
}

}  // namespace

absl::StatusOr<std::unique_ptr<LocalOptimizer>> LocalOptimizer::Create(
    const v1::Optimizer& spec, size_t size) {
  switch (spec.kind_case()) {
    case v1::Optimizer::kAdam:
      return AdamOptimizer::Create("adam", spec.adam(), false, size);
    case v1::Optimizer::kAdamw:
      return AdamOptimizer::Create("adamw", spec.adamw(), true, size);
    case v1::Optimizer::kSgd:
    case v1::Optimizer::KIND_NOT_SET:
      break;
  }
  return SgdOptimizer::Create(spec.sgd(), size);
}

absl::Status ValidateLearningRateSchedule(
    const v1::LearningRateSchedule& schedule) {
  ABSL_RETURN_IF_ERROR(
      CheckAtLeast("schedule.warmup_steps", schedule.warmup_steps(), 0));
  if (schedule.has_step()) {
    ABSL_RETURN_IF_ERROR(
        CheckAtLeast("schedule.step.every", schedule.step().every(), 1));
    ABSL_RETURN_IF_ERROR(CheckFinite(
        "schedule.step.factor", schedule.step().factor(), 0, kNotNegative));
  }
  if (schedule.has_cosine()) {
    ABSL_RETURN_IF_ERROR(
        CheckAtLeast("schedule.cosine.steps", schedule.cosine().steps(), 1));
    ABSL_RETURN_IF_ERROR(CheckFinite("schedule.cosine.final_factor",
                                     schedule.cosine().final_factor(), 0,
                                     kNotNegative));
  }
  return absl::OkStatus();
}

double LearningRateFactor(const v1::LearningRateSchedule& schedule,
                          int64_t index) {
  const int64_t warmup = schedule.warmup_steps();
  if (index < warmup) {
    return static_cast<double>(index + 1) / static_cast<double>(warmup);
  }
  return FactorAfterWarmup(schedule, index - warmup);
}

double GlobalNorm(absl::Span<const float> values) {
  // Eight sums side by side: independent additions, and always the same order.
  constexpr size_t kLanes = 8;
  double sums[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= values.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const double value = values[i + lane];
      sums[lane] += value * value;
    }
  }
  for (; i < values.size(); ++i) {
    sums[0] += double{values[i]} * double{values[i]};
  }
  double sum = 0;
  for (double part : sums) sum += part;
  return std::sqrt(sum);
}

double ClipByGlobalNorm(double max_norm, absl::Span<float> gradients) {
  const double norm = GlobalNorm(gradients);
  if (!(norm > max_norm)) return norm;
  const float scale = static_cast<float>(max_norm / norm);
  for (float& gradient : gradients) gradient *= scale;
  return norm;
}

void AddProximalTerm(double mu, absl::Span<const float> parameters,
                     absl::Span<const float> global,
                     absl::Span<float> gradients) {
  const float factor = static_cast<float>(mu);
  const float* __restrict w = parameters.data();
  const float* __restrict w0 = global.data();
  float* __restrict g = gradients.data();
  for (size_t i = 0; i < gradients.size(); ++i) {
    g[i] += factor * (w[i] - w0[i]);
  }
}

void ControlCorrection(absl::Span<const float> server,
                       absl::Span<const float> own,
                       absl::Span<float> correction) {
  const float* c = server.data();
  const float* ci = own.data();
  float* out = correction.data();
  for (size_t i = 0; i < correction.size(); ++i) out[i] = c[i] - ci[i];
}

void AddCorrection(absl::Span<const float> correction,
                   absl::Span<float> gradients) {
  const float* __restrict d = correction.data();
  float* __restrict g = gradients.data();
  for (size_t i = 0; i < gradients.size(); ++i) g[i] += d[i];
}

void ControlDifference(absl::Span<const float> before,
                       absl::Span<const float> after,
                       absl::Span<const float> server, double rates,
                       absl::Span<float> difference) {
  const float* __restrict x = before.data();
  const float* __restrict y = after.data();
  const float* __restrict c = server.data();
  float* __restrict out = difference.data();
  const double scale = 1 / rates;
  for (size_t i = 0; i < difference.size(); ++i) {
    out[i] = static_cast<float>((double{x[i]} - double{y[i]}) * scale -
                                double{c[i]});
  }
}

}  // namespace koinon::kernels
