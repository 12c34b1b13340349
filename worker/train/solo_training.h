#ifndef KOINON_WORKER_TRAIN_SOLO_TRAINING_H_
#define KOINON_WORKER_TRAIN_SOLO_TRAINING_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/env.h"
#include "kernels/graph/model_graph.h"
#include "kernels/network.h"
#include "kernels/optimizer.h"
#include "proto/job.pb.h"
#include "worker/data/dataset.h"
#include "worker/train/checkpoint.h"
#include "worker/train/training_plan.h"
#include "worker/train/training_run.h"
#include "worker/train/training_totals.h"

namespace koinon::worker {

// One worker's training without a federation: the model of a job, from the
// initial values that the federation would start from, by the job's way of
// training, for one round's epochs or steps.
//
//   ABSL_ASSIGN_OR_RETURN(auto training,
//                         SoloTraining::Create(env, clock, job, data,
//                         options));
//   ABSL_RETURN_IF_ERROR(training->Run({.report = Print}, stop).status());
//   ABSL_RETURN_IF_ERROR(training->Write("model.safetensors"));
//
// With a checkpoint folder it goes on where an earlier run stopped, however it
// ended, and leaves the same bytes as a run that nothing disturbed (with the
// same threads). One run at a time may use a folder: the caller sees to that.
// Not thread-safe; env, clock and data must outlive it.
class SoloTraining {
 public:
  struct Options {
    int threads = 1;
    // Steps between two reports, and between two evaluations on the held-out
    // part. Zero: a hundredth and a twentieth of all.
    int64_t report_every = 0;
    int64_t evaluate_every = 0;
    // Of one evaluation, at most. Zero: all; of sequences kDefaultBatches.
    size_t evaluation_batches = 0;
    // A safetensors file with the model to start from. Empty: the values that
    // follow from the job's seed.
    std::string initial_model;
    // Empty: no checkpoints.
    std::string checkpoint_dir;
    // Steps between two of them. Zero: about a minute.
    int64_t checkpoint_every = 0;
    // As NativeTrainer::Options.max_model_bytes.
    uint64_t max_model_bytes = uint64_t{16} << 30;
  };
  static constexpr size_t kDefaultBatches = 50;

  struct Report {
    int64_t step = 0;         // made so far
    double seconds = 0;       // so far, those of earlier runs too
    TrainingTotals training;  // since the last report
    std::optional<TrainingTotals> held_out;  // if measured at this step
    double labels_per_second = 0;            // trained since the last report
  };
  struct Observer {
    // After each step, with what it measured.
    std::function<void(int64_t step, const TrainingTotals& totals)> step;
    std::function<void(const Report& report)> report;
  };

  // Checks all against each other and takes up a checkpoint if there is one.
  // INVALID_ARGUMENT or FAILED_PRECONDITION, saying what was expected and
  // found: a job that needs a federation or another program, a model that does
  // not fit the data, terms out of range, a checkpoint of another training;
  // DATA_LOSS for a damaged checkpoint; RESOURCE_EXHAUSTED over
  // max_model_bytes.
  static absl::StatusOr<std::unique_ptr<SoloTraining>> Create(
      Env* env, const Clock* clock, const v1::JobSpec& job,
      const LocalData* data, const Options& options);

  // Makes the steps that are left and returns the last report, with the
  // held-out part measured if there is one. CANCELLED soon after `stop` becomes
  // true, with a checkpoint of where it stands.
  absl::StatusOr<Report> Run(const Observer& observer,
                             const std::atomic<bool>& stop);
  // The model as it stands, as safetensors. INTERNAL if a value is not finite.
  absl::Status Write(const std::string& path);

  int64_t first_step() const { return first_step_; }  // > 0: was taken up
  int64_t steps() const { return plan_.steps; }
  size_t parameters() const { return graph_.layout().total_elements(); }
  bool bfloat16() const { return network_options_.bfloat16; }
  bool has_classes() const;
  bool checkpoints() const { return !options_.checkpoint_dir.empty(); }

 private:
  SoloTraining(Env* env, const Clock* clock, v1::JobSpec job,
               const LocalData* data, const Options& options,
               kernels::ModelGraph graph);

  absl::Status Prepare();  // everything but the constructor's
  absl::Status Initialize();
  absl::Status TakeUp();
  absl::StatusOr<TrainingTotals> EvaluateHeldOut(const std::atomic<bool>& stop);
  absl::Status Save();
  absl::Status SaveIfDue();
  bool ReportDue() const;
  bool EvaluationDue() const;
  absl::Status ReportStep(const Observer& observer,
                          const std::atomic<bool>& stop);
  absl::Status StepOnce(const Observer& observer);
  double Seconds() const;

  Env* const env_;
  const Clock* const clock_;
  const v1::JobSpec job_;
  const LocalData* const data_;
  Options options_;  // with defaults filled in
  const kernels::ModelGraph graph_;
  TrainingPlan plan_;
  kernels::Network::Options network_options_;
  std::string fingerprint_;
  std::unique_ptr<kernels::Network> network_;
  std::unique_ptr<kernels::LocalOptimizer> optimizer_;
  std::vector<float> base_;  // what the proximal term pulls towards, or nothing
  std::unique_ptr<TrainingRun> run_;

  int64_t first_step_ = 0;
  double earlier_seconds_ = 0;  // of runs before this one
  absl::Time start_;
  absl::Time last_save_;
  absl::Duration in_steps_;  // since the last report
  TrainingTotals since_report_;
  Report last_;
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_TRAIN_SOLO_TRAINING_H_
