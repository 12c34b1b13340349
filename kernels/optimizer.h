#ifndef KOINON_KERNELS_OPTIMIZER_H_
#define KOINON_KERNELS_OPTIMIZER_H_

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "proto/job.pb.h"

namespace koinon::kernels {

// Local optimizer: SGD (momentum, Nesterov), Adam, AdamW, in the conventions of
// PyTorch 2. State lives as long as the object (one task). Not thread-safe.
class LocalOptimizer {
 public:
  struct Options {
    // That work on a step; they have no part in its result.
    int threads = 1;
    // Ranges [begin, end) of parameters, in order, that steps leave as they are
    // (ModelGraph::is_buffer).
    std::vector<std::pair<size_t, size_t>> frozen;
  };

  // `size`: number of parameters. Zero fields take the defaults named in
  // proto/job.proto; no kind at all is SGD with its defaults. INVALID_ARGUMENT
  // names the field that is out of range.
  static absl::StatusOr<std::unique_ptr<LocalOptimizer>> Create(
      const v1::Optimizer& spec, size_t size, const Options& options);
  static absl::StatusOr<std::unique_ptr<LocalOptimizer>> Create(
      const v1::Optimizer& spec, size_t size) {
    return Create(spec, size, Options{});
  }
  virtual ~LocalOptimizer() = default;
  // The spec's, or its default.
  virtual double learning_rate() const = 0;
  // One step with the spec's learning rate times `rate_factor`, on the
  // gradients times `gradient_factor` (ClipFactor): one pass over parameters,
  // gradients and state. Both spans: [size]. Deterministic; allocates nothing.
  void Step(double rate_factor, double gradient_factor,
            absl::Span<const float> gradients, absl::Span<float> parameters) {
    ++steps_;
    DoStep(rate_factor, gradient_factor, gradients, parameters);
  }
  void Step(double rate_factor, absl::Span<const float> gradients,
            absl::Span<float> parameters) {
    Step(rate_factor, 1, gradients, parameters);
  }

  // What a step leaves to the next beside the parameters: the number of steps
  // made, and values, [size] each, none for plain SGD. An optimizer of the same
  // spec that is given another's goes on as that would have.
  virtual std::vector<absl::Span<float>> state() = 0;
  int64_t steps() const { return steps_; }
  void set_steps(int64_t steps) { steps_ = steps; }

 private:
  int64_t steps_ = 0;

  virtual void DoStep(double rate_factor, double gradient_factor,
                      absl::Span<const float> gradients,
                      absl::Span<float> parameters) = 0;
};

// INVALID_ARGUMENT names the field of a schedule that is out of range: negative
// warm-up, `every` or `steps` below 1, factors that are negative or not finite.
absl::Status ValidateLearningRateSchedule(
    const v1::LearningRateSchedule& schedule);

// The factor on the learning rate at step (or round) `index`, from 0. During a
// warm-up of w steps it is (index + 1) / w; after it the schedule starts at its
// own step 0. A schedule of no kind is constant. Requires a valid schedule.
double LearningRateFactor(const v1::LearningRateSchedule& schedule,
                          int64_t index);

// L2 norm, accumulated in double, in an order that does not depend on
// `threads`.
double GlobalNorm(absl::Span<const float> values, int threads = 1);
// What brings `gradients` down to norm `max_norm` if theirs is larger, else 1:
// LocalOptimizer::Step multiplies by it in passing. max_norm > 0.
double ClipFactor(double max_norm, absl::Span<const float> gradients,
                  int threads = 1);
// Scales `gradients` down to norm `max_norm` if it is larger; returns the norm
// before. max_norm > 0.
double ClipByGlobalNorm(double max_norm, absl::Span<float> gradients);
// FedProx (Li et al. 2020): gradients += mu * (parameters - global).
void AddProximalTerm(double mu, absl::Span<const float> parameters,
                     absl::Span<const float> global,
                     absl::Span<float> gradients);

// SCAFFOLD, option II (Karimireddy et al. 2020). All spans have one length.

// Before the steps: correction <- server - own, to be added to every gradient.
// `correction` may be `own`.
void ControlCorrection(absl::Span<const float> server,
                       absl::Span<const float> own,
                       absl::Span<float> correction);
// gradients += correction.
void AddCorrection(absl::Span<const float> correction,
                   absl::Span<float> gradients);
// After them: difference <- (c_i+ - c_i) = (x - y) / rates - c, where x are the
// parameters before and y after, c is the server's control variate, and `rates`
// is the sum of the learning rates of the steps, > 0. c_i itself cancels.
void ControlDifference(absl::Span<const float> before,
                       absl::Span<const float> after,
                       absl::Span<const float> server, double rates,
                       absl::Span<float> difference);

}  // namespace koinon::kernels

#endif  // KOINON_KERNELS_OPTIMIZER_H_
