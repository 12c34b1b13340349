#ifndef KOINON_KERNELS_OPTIMIZER_H_
#define KOINON_KERNELS_OPTIMIZER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "proto/job.pb.h"

namespace koinon::kernels {

// Local optimizer: SGD (momentum, Nesterov), Adam, AdamW, in the conventions of
// PyTorch 2. State lives as long as the object (one task). Not thread-safe.
class LocalOptimizer {
 public:
  // `size`: number of parameters. INVALID_ARGUMENT names the field that is out
  // of range.
  static absl::StatusOr<std::unique_ptr<LocalOptimizer>> Create(
      const v1::Optimizer& spec, size_t size);
  virtual ~LocalOptimizer() = default;
  // One step with the spec's learning rate times `rate_factor`.
  virtual void Step(double rate_factor, absl::Span<const float> gradients,
                    absl::Span<float> parameters) = 0;
};

// The factor on the learning rate at step (or round) `index`, from 0.
double LearningRateFactor(const v1::LearningRateSchedule& schedule,
                          int64_t index);

// L2 norm, accumulated in double.
double GlobalNorm(absl::Span<const float> values);
// Scales `gradients` down to norm `max_norm` if it is larger; returns the norm
// before. max_norm > 0.
double ClipByGlobalNorm(double max_norm, absl::Span<float> gradients);
// FedProx (Li et al. 2020): gradients += mu * (parameters - global).
void AddProximalTerm(double mu, absl::Span<const float> parameters,
                     absl::Span<const float> global,
                     absl::Span<float> gradients);

}  // namespace koinon::kernels

#endif  // KOINON_KERNELS_OPTIMIZER_H_
