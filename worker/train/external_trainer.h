#ifndef KOINON_WORKER_TRAIN_EXTERNAL_TRAINER_H_
#define KOINON_WORKER_TRAIN_EXTERNAL_TRAINER_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/clock.h"
#include "base/env.h"
#include "worker/data/dataset.h"
#include "worker/train/external_trainer.pb.h"
#include "worker/train/trainer.h"

namespace koinon::worker {

// Trains by running a program of the worker's owner, in any language.
//
// Each task gets a fresh directory, where the program starts. It finds there
// model.safetensors (the base) and task.json (ExternalTask); it must leave
// model.safetensors (trained; same tensors, in any order) and metrics.json
// (ExternalMetrics), and exit with 0. To evaluate, it leaves only metrics.json.
// Its output goes to the worker's log. The directory is removed afterwards.
// docs/external-trainer.md is the whole contract.
//
// What the program is comes from the worker's configuration alone; from the
// wire come only its name and task.json. Models go through block by block:
// memory does not grow with them. Errors carry no output of the program, for
// that may be private and errors are sent to the coordinator.
//
// The env must be the machine's own file system; it, the clock and the datasets
// must outlive the trainer. Progress is not reported.
class ExternalTrainer final : public Trainer {
 public:
  // Where a line of the program's output goes.
  using LineSink = std::function<void(absl::string_view line)>;

  // `scratch_dir` is this trainer's own: what is in it is removed. Output goes
  // to the log unless `line_sink` is set. INVALID_ARGUMENT, naming the field,
  // for a bad name, no command, or a bound out of range.
  static absl::StatusOr<std::unique_ptr<ExternalTrainer>> Create(
      Env* env, const Clock* clock, const LocalDatasets* datasets,
      const std::string& scratch_dir, const ExternalTrainerConfig& config,
      LineSink line_sink = nullptr);

  absl::StatusOr<v1::Metrics> Train(const v1::OfferTask& offer,
                                    const std::string& base_path,
                                    const std::string& update_path,
                                    const ProgressCallback& progress,
                                    const std::atomic<bool>& stop) override;
  absl::StatusOr<v1::Metrics> Evaluate(const v1::OfferTask& offer,
                                       const std::string& model_path,
                                       const std::atomic<bool>& stop) override;

 private:
  ExternalTrainer(Env* env, const Clock* clock, const LocalDatasets* datasets,
                  const std::string& scratch_dir,
                  const ExternalTrainerConfig& config, LineSink line_sink);

  // Fills a fresh directory, runs the program in it, and reads what it
  // measured.
  absl::StatusOr<v1::Metrics> RunTask(const v1::OfferTask& offer,
                                      absl::string_view kind,
                                      const std::string& model_path,
                                      const std::atomic<bool>& stop);
  absl::Status PrepareDirectory(const v1::OfferTask& offer,
                                absl::string_view kind,
                                const std::string& model_path);
  absl::Status RunProgram(const std::atomic<bool>& stop);
  absl::StatusOr<v1::Metrics> ReadMetrics();
  // The same code, or INTERNAL for a program that misbehaved, and our name.
  absl::Status Annotate(const absl::Status& status) const;

  Env* const env_;
  const Clock* const clock_;
  const LocalDatasets* const datasets_;
  const std::string directory_;
  const ExternalTrainerConfig config_;
  const LineSink line_sink_;
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_TRAIN_EXTERNAL_TRAINER_H_
