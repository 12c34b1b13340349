#ifndef KOINON_WORKER_TRAIN_GRADIENT_EXCHANGE_H_
#define KOINON_WORKER_TRAIN_GRADIENT_EXCHANGE_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace koinon::worker {

// How the members of one site that train side by side (its ranks) make one
// step of their gradients, or one model of theirs. A TrainingRun on each of
// them calls, for every step and in this order:
//
//   exchange->Start(step, weight, gradients);
//   exchange->Ready(begin, end);  // again and again, in the midst of backward
//   status = exchange->Finish(own);
//   ... the optimizer steps ...
//   status = exchange->Stepped(step, parameters);
//
// All members see the same steps and make the same calls, except that one whose
// own part failed may leave out calls of Ready; so an implementation may use
// collectives. Called from the training thread alone.
class GradientExchange {
 public:
  virtual ~GradientExchange() = default;

  // A step begins. gradients: [parameters], valid to the end of the run, each
  // element written before it is told ready. What is to be made of them is the
  // sum over the members of `weight` times theirs; weights are in [0, 1] and
  // sum up to 1: the member's part of the step's examples.
  virtual void Start(int64_t step, double weight,
                     absl::Span<float> gradients) = 0;

  // Elements [begin, end) hold this member's own values and will not be
  // touched by the run until Finish returns. Each is told once in a step.
  virtual void Ready(size_t begin, size_t end) = 0;

  // Returns once the gradients are what Start says, with the same bytes on
  // every member. `own`: how this member's part went. Fails on every member if
  // it went wrong on any; the run then ends.
  virtual absl::Status Finish(const absl::Status& own) = 0;

  // The optimizer has stepped; parameters: [parameters]. Where gradients are
  // not summed at every step, this is where parameters are averaged.
  virtual absl::Status Stepped(int64_t step, absl::Span<float> parameters) = 0;
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_TRAIN_GRADIENT_EXCHANGE_H_
