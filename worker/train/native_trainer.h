#ifndef KOINON_WORKER_TRAIN_NATIVE_TRAINER_H_
#define KOINON_WORKER_TRAIN_NATIVE_TRAINER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/env.h"
#include "worker/collective/communicator.h"
#include "worker/data/dataset.h"
#include "worker/store/control_store.h"
#include "worker/train/network_cache.h"
#include "worker/train/trainer.h"
#include "worker/train/training_totals.h"

namespace koinon::worker {

class SiteMember;

// Trains with Koinon's own kernels.
//
// Each epoch goes through the training part in an order drawn from the offer's
// seed and the epoch alone. A step's gradient is that of the loss, plus the
// proximal term (mu), then clipped; then the optimizer steps. The metrics of
// training are means over the last epoch (or all steps, if there are fewer),
// measured while the parameters move.
//
// training.precision BFLOAT16 is refused (FAILED_PRECONDITION) on a processor
// without bfloat16; BFLOAT16_OR_FLOAT32 trains in float32 there, and the
// metrics say which it was.
//
// With training.scaffold (Karimireddy et al. 2020, option II) the base holds
// the model and the server's control variate c, and each gradient is corrected
// by c - c_i, where c_i is this worker's own, from `controls`. The update holds
// the differences of both; c_i itself stays as it is: it changes once the
// update is in a version (ControlStore::Include).
//
// As a rank of a site it trains its part of each batch, and the ranks make one
// step of their gradients, or, with training.site_steps, one model of theirs
// every so many steps. All ranks call Train with the same offer; rank 0 reads
// the base and writes the update, the others' paths are not looked at, and all
// return the whole site's metrics. An error of one rank is an error of all.
// Evaluate is not collective.
//
// The env, the clock and the datasets must outlive it.
class NativeTrainer final : public Trainer {
 public:
  struct Options {
    int threads = 1;
    // Bound on the parameters of a model (its file, which holds control
    // variates too where the job has them), and on what its layers put out for
    // one batch. Training holds several times as much.
    uint64_t max_model_bytes = uint64_t{8} << 30;
    // Networks kept from task to task.
    size_t max_cached_networks = 2;
    // Must outlive the trainer. Null: tasks with training.scaffold are refused
    // (FAILED_PRECONDITION).
    ControlStore* controls = nullptr;
    // Must outlive the trainer. Null: this process trains alone.
    Communicator* site = nullptr;
  };

  NativeTrainer(Env* env, const Clock* clock, const LocalDatasets* datasets,
                const Options& options);

  // RESOURCE_EXHAUSTED over max_model_bytes, before anything is allocated;
  // otherwise as Trainer.
  absl::StatusOr<v1::Metrics> Train(const v1::OfferTask& offer,
                                    const std::string& base_path,
                                    const std::string& update_path,
                                    const ProgressCallback& progress,
                                    const std::atomic<bool>& stop) override;
  absl::StatusOr<v1::Metrics> Evaluate(const v1::OfferTask& offer,
                                       const std::string& model_path,
                                       const std::atomic<bool>& stop) override;

 private:
  // What a task needs, all checked against each other.
  struct Task;
  absl::StatusOr<Task> Prepare(const v1::OfferTask& offer,
                               const std::string& model_path, bool training);
  static v1::Metrics ToMetrics(const TrainingTotals& totals, const Task& task,
                               absl::Duration elapsed, int64_t steps);
  // What corrects each gradient, [parameters]; empty without training.scaffold.
  absl::StatusOr<std::vector<float>> Correction(const v1::OfferTask& offer,
                                                const Task& task);
  // The same, as the rank that leads has it.
  absl::StatusOr<std::vector<float>> SharedCorrection(
      const v1::OfferTask& offer, const Task& task, SiteMember* member);

  Env* const env_;
  const Clock* const clock_;
  const LocalDatasets* const datasets_;
  const Options options_;
  NetworkCache networks_;
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_TRAIN_NATIVE_TRAINER_H_
