#include "kernels/optimizer.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "base/status_macros.h"
#include "kernels/onednn/openmp.h"
#include "kernels/widest_vectors.h"

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

// What both optimizers share: which parameters move, and on how many threads.
class RangedOptimizer : public LocalOptimizer {
 public:
  RangedOptimizer(size_t size, const Options& options)
      : threads_(options.threads) {
    size_t begin = 0;
    for (const auto& [frozen_begin, frozen_end] : options.frozen) {
      if (frozen_begin > begin) moving_.emplace_back(begin, frozen_begin);
      begin = frozen_end;
    }
    if (begin < size) moving_.emplace_back(begin, size);
  }

 protected:
  // Calls step(begin, end) on ranges that cover the parameters that move, in
  // several threads, for this processor's vectors.
  template <typename Body>
  void ForEachRange(const Body& step) const {
    for (const auto& [first, last] : moving_) {
      const size_t offset = first;
      onednn::ParallelFor(threads_, (last - first + kLine - 1) / kLine,
                          [&, end_of_range = last](size_t begin, size_t end) {
                            const size_t from = offset + begin * kLine;
                            const size_t to =
                                std::min(offset + end * kLine, end_of_range);
                            WithWidestVectors([&] { step(from, to); });
                          });
    }
  }

 private:
  // Threads share no cache line.
  static constexpr size_t kLine = 16;

  const int threads_;
  std::vector<std::pair<size_t, size_t>> moving_;
};

class SgdOptimizer final : public RangedOptimizer {
 public:
  static absl::StatusOr<std::unique_ptr<LocalOptimizer>> Create(
      const v1::Optimizer::Sgd& spec, size_t size, const Options& options) {
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
    return std::make_unique<SgdOptimizer>(spec, size, options);
  }

  SgdOptimizer(const v1::Optimizer::Sgd& spec, size_t size,
               const Options& options)
      : RangedOptimizer(size, options),
        rate_(OrDefault(spec.learning_rate(), 0.1)),
        momentum_(static_cast<float>(spec.momentum())),
        decay_(static_cast<float>(spec.weight_decay())),
        nesterov_(spec.nesterov()),
        velocity_(spec.momentum() == 0 ? 0 : size) {}

  double learning_rate() const override { return rate_; }
  std::vector<absl::Span<float>> state() override {
    if (velocity_.empty()) return {};
    return {absl::MakeSpan(velocity_)};
  }

 private:
  void DoStep(double rate_factor, double gradient_factor,
              absl::Span<const float> gradients,
              absl::Span<float> parameters) override {
    const float rate = static_cast<float>(rate_ * rate_factor);
    const float factor = static_cast<float>(gradient_factor);
    if (velocity_.empty()) {
      PlainStep(rate, factor, gradients.data(), parameters.data());
    } else if (nesterov_) {
      MomentumStep<true>(rate, factor, gradients.data(), parameters.data());
    } else {
      MomentumStep<false>(rate, factor, gradients.data(), parameters.data());
    }
  }

  void PlainStep(float rate, float factor, const float* gradients,
                 float* parameters) const {
    ForEachRange([=, decay = decay_](size_t begin, size_t end) {
      const float* __restrict g = gradients;
      float* __restrict w = parameters;
      for (size_t i = begin; i < end; ++i) {
        w[i] -= rate * (factor * g[i] + decay * w[i]);
      }
    });
  }

  // v starts at 0, so that the first step sets it to the gradient.
  template <bool kNesterov>
  void MomentumStep(float rate, float factor, const float* gradients,
                    float* parameters) {
    float* velocity = velocity_.data();
    ForEachRange(
        [=, decay = decay_, momentum = momentum_](size_t begin, size_t end) {
          const float* __restrict g = gradients;
          float* __restrict w = parameters;
          float* __restrict v = velocity;
          for (size_t i = begin; i < end; ++i) {
            const float decayed = factor * g[i] + decay * w[i];
            const float moved = momentum * v[i] + decayed;
            v[i] = moved;
            w[i] -= rate * (kNesterov ? decayed + momentum * moved : moved);
          }
        });
  }

  const double rate_;
  const float momentum_;
  const float decay_;
  const bool nesterov_;
  std::vector<float> velocity_;
};

// Kingma and Ba 2015; weight decay in the gradient (Adam) or on the parameters
// (AdamW).
class AdamOptimizer final : public RangedOptimizer {
 public:
  static absl::StatusOr<std::unique_ptr<LocalOptimizer>> Create(
      absl::string_view field, const v1::Optimizer::Adam& spec, bool decoupled,
      size_t size, const Options& options) {
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
    return std::make_unique<AdamOptimizer>(spec, decoupled, size, options);
  }

  AdamOptimizer(const v1::Optimizer::Adam& spec, bool decoupled, size_t size,
                const Options& options)
      : RangedOptimizer(size, options),
        rate_(OrDefault(spec.learning_rate(), 0.001)),
        beta1_(OrDefault(spec.beta1(), 0.9)),
        beta2_(OrDefault(spec.beta2(), 0.999)),
        epsilon_(OrDefault(spec.epsilon(), 1e-8)),
        decay_(spec.weight_decay()),
        decoupled_(decoupled),
        first_(size),
        second_(size) {}

  double learning_rate() const override { return rate_; }
  std::vector<absl::Span<float>> state() override {
    return {absl::MakeSpan(first_), absl::MakeSpan(second_)};
  }

 private:
  void DoStep(double rate_factor, double gradient_factor,
              absl::Span<const float> gradients,
              absl::Span<float> parameters) override {
    const double rate = rate_ * rate_factor;
    const double correction1 = 1 - std::pow(beta1_, steps());
    const double correction2 = 1 - std::pow(beta2_, steps());
    const float factor = static_cast<float>(gradient_factor);
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
    ForEachRange([=, gradients = gradients.data(),
                  parameters = parameters.data(), first = first_.data(),
                  second = second_.data()](size_t begin, size_t end) {
      const float* __restrict g = gradients;
      float* __restrict w = parameters;
      float* __restrict m = first;
      float* __restrict v = second;
      for (size_t i = begin; i < end; ++i) {
        const float decayed = factor * g[i] + coupled * w[i];
        const float mean = beta1 * m[i] + rest1 * decayed;
        const float square = beta2 * v[i] + rest2 * decayed * decayed;
        m[i] = mean;
        v[i] = square;
        w[i] =
            shrink * w[i] - step * mean / (std::sqrt(square) * root + epsilon);
      }
    });
  }

  const double rate_;
  const double beta1_;
  const double beta2_;
  const double epsilon_;
  const double decay_;
  const bool decoupled_;
  std::vector<float> first_;   // running mean of gradients
  std::vector<float> second_;  // and of their squares
};

// Of squares, on sixteen sums side by side, always in the same order.
double SumOfSquares(const float* values, size_t count) {
  constexpr size_t kLanes = 16;
  double sum = 0;
  WithWidestVectors([&] {
    double lanes[kLanes] = {};
    size_t i = 0;
    for (; i + kLanes <= count; i += kLanes) {
      for (size_t lane = 0; lane < kLanes; ++lane) {
        const double value = values[i + lane];
        lanes[lane] += value * value;
      }
    }
    for (; i < count; ++i) lanes[0] += double{values[i]} * double{values[i]};
    for (double part : lanes) sum += part;
  });
  return sum;
}

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
    const v1::Optimizer& spec, size_t size, const Options& options) {
  switch (spec.kind_case()) {
    case v1::Optimizer::kAdam:
      return AdamOptimizer::Create("adam", spec.adam(), false, size, options);
    case v1::Optimizer::kAdamw:
      return AdamOptimizer::Create("adamw", spec.adamw(), true, size, options);
    case v1::Optimizer::kSgd:
    case v1::Optimizer::KIND_NOT_SET:
      break;
  }
  return SgdOptimizer::Create(spec.sgd(), size, options);
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

double GlobalNorm(absl::Span<const float> values, int threads) {
  // So many sums, whatever the number of threads.
  constexpr size_t kParts = 256;
  double sums[kParts] = {};
  const auto add = [&](size_t begin, size_t end) {
    for (size_t part = begin; part < end; ++part) {
      const size_t from = values.size() * part / kParts;
      const size_t to = values.size() * (part + 1) / kParts;
      sums[part] = SumOfSquares(values.data() + from, to - from);
    }
  };
  onednn::ParallelFor(threads, kParts, add);
  double sum = 0;
  for (double part : sums) sum += part;
  return std::sqrt(sum);
}

double ClipFactor(double max_norm, absl::Span<const float> gradients,
                  int threads) {
  const double norm = GlobalNorm(gradients, threads);
  return norm > max_norm ? max_norm / norm : 1;
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
