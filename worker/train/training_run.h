#ifndef KOINON_WORKER_TRAIN_TRAINING_RUN_H_
#define KOINON_WORKER_TRAIN_TRAINING_RUN_H_

#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/graph/model_graph.h"
#include "kernels/network.h"
#include "kernels/optimizer.h"
#include "proto/job.pb.h"
#include "worker/data/dataset.h"
#include "worker/train/batches.h"
#include "worker/train/gradient_exchange.h"
#include "worker/train/trainer.h"
#include "worker/train/training_plan.h"
#include "worker/train/training_totals.h"

namespace koinon::worker {

// INVALID_ARGUMENT, naming the field, for terms of the training that are
// negative, not finite, or contradict each other, and for a bad schedule.
absl::Status CheckTrainingTerms(const v1::TrainingSpec& spec);

// The spec's optimizer for a model: tensors that the steps of training set
// themselves are left alone. Errors as LocalOptimizer::Create.
absl::StatusOr<std::unique_ptr<kernels::LocalOptimizer>> NewLocalOptimizer(
    const kernels::ModelGraph& graph, const v1::TrainingSpec& spec,
    int threads);

// The steps of one training, of a task or of a model alone: batches in a seeded
// order, gradients, what is added to them, the optimizer's steps.
//
//   TrainingRun run({.spec = &spec, .plan = plan, .data = &data, .seed = 7},
//                   network.get(), optimizer.get());
//   while (!run.done()) ABSL_RETURN_IF_ERROR(run.Step(stop).status());
//
// Each epoch goes through the data in an order drawn from the seed and the
// epoch alone; a step's dropout masks follow from the seed and the step. So a
// run that starts at a later step (StartAt) with the parameters and the
// optimizer's state of an earlier run goes on as that would have.
//
// A step's gradient is that of the loss, summed over the members of a site if
// there is an exchange; then the proximal term (mu) is added, it is clipped,
// and the correction is added. Members of a site train on disjoint parts of the
// same batches: R members with batches of B make the steps that one makes with
// batches of B (to rounding, and but for dropout, whose masks each draws for
// itself, and for what a batch norm sees).
//
// Everything in Options that is a pointer or a span, the network and the
// optimizer must outlive the run. The network's batch size must be at least
// shard.Most(plan.batch_size). Not thread-safe.
class TrainingRun {
 public:
  struct Options {
    const v1::TrainingSpec* spec = nullptr;
    TrainingPlan plan;
    const Dataset* data = nullptr;
    uint64_t seed = 0;
    int64_t round = 1;  // for schedules that go by round
    int threads = 1;    // that work on norms; no part in the result
    // What the proximal term pulls towards, [parameters]; may be empty without
    // one.
    absl::Span<const float> base = {};
    // Added to every gradient, [parameters]; empty: nothing.
    absl::Span<const float> correction = {};
    // Null: this one trains alone, and the shard is the whole.
    GradientExchange* exchange = nullptr;
    Shard shard;
  };

  TrainingRun(const Options& options, kernels::Network* network,
              kernels::LocalOptimizer* optimizer);

  // As if the steps before `step` had been made, with these learning rates in
  // sum. Before the first Step only.
  void StartAt(int64_t step, double rates);

  // Makes the next step and returns what was measured on this member's part of
  // its batch. CANCELLED if `stop` is set; INTERNAL, with the step, if the loss
  // is not finite; the exchange's errors. Requires !done(). After a failure the
  // run is over.
  absl::StatusOr<TrainingTotals> Step(const std::atomic<bool>& stop);

  // All the steps that are left. Returns the sums over the last epoch (or all
  // steps, if there are fewer).
  absl::StatusOr<TrainingTotals> Finish(const ProgressCallback& progress,
                                        const std::atomic<bool>& stop);

  int64_t steps() const { return step_; }  // made so far
  bool done() const { return step_ >= options_.plan.steps; }
  // Sum of the learning rates of the steps so far.
  double rates() const { return rates_; }

 private:
  absl::StatusOr<kernels::Batch> NextBatch();
  // Forward and backward on this member's part.
  absl::StatusOr<kernels::BatchMetrics> Gradients(const kernels::Batch& batch);
  // The same, as part of a site.
  absl::StatusOr<kernels::BatchMetrics> ExchangedGradients(
      const absl::StatusOr<kernels::Batch>& batch,
      const std::atomic<bool>& stop);
  // Returns what the optimizer multiplies the gradients by.
  double ApplyTerms();

  const Options options_;
  kernels::Network* const network_;
  kernels::LocalOptimizer* const optimizer_;
  const uint64_t order_seed_;
  const uint64_t step_seed_;
  Batches batches_;
  bool in_pass_ = false;  // batches_ stands where step_ is
  int64_t step_ = 0;
  double rates_ = 0;
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_TRAIN_TRAINING_RUN_H_
