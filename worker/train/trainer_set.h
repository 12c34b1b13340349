#ifndef KOINON_WORKER_TRAIN_TRAINER_SET_H_
#define KOINON_WORKER_TRAIN_TRAINER_SET_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/clock.h"
#include "base/env.h"
#include "worker/data/dataset.h"
#include "worker/train/external_trainer.pb.h"
#include "worker/train/native_trainer.h"
#include "worker/train/trainer.h"

namespace koinon::worker {

// All the trainers of a worker: hands each task to the one that the job names
// (training.external_trainer; empty or "native": Koinon's own kernels).
//
//   ABSL_ASSIGN_OR_RETURN(LocalDatasets datasets,
//                         LoadLocalDatasets(env, config.datasets));
//   ABSL_ASSIGN_OR_RETURN(std::unique_ptr<TrainerSet> trainer,
//                         TrainerSet::Create(env, clock, &datasets, options));
//   trainer->Train(offer, base_path, update_path, progress, stop);
//
// The env, the clock and the datasets must outlive it.
class TrainerSet final : public Trainer {
 public:
  struct Options {
    NativeTrainer::Options native;
    std::vector<ExternalTrainerConfig> external;
    // External trainers work in folders below it, named like them, which are
    // removed after each task. Two sets that run at once need two of these.
    std::string scratch_dir;
  };

  // INVALID_ARGUMENT for a bad configuration or a name used twice.
  static absl::StatusOr<std::unique_ptr<TrainerSet>> Create(
      Env* env, const Clock* clock, const LocalDatasets* datasets,
      const Options& options);

  // The names of the external ones, in ascending order.
  std::vector<std::string> external_names() const;

  // NOT_FOUND for a trainer that there is not, listing those there are;
  // otherwise as the trainer.
  absl::StatusOr<v1::Metrics> Train(const v1::OfferTask& offer,
                                    const std::string& base_path,
                                    const std::string& update_path,
                                    const ProgressCallback& progress,
                                    const std::atomic<bool>& stop) override;
  absl::StatusOr<v1::Metrics> Evaluate(const v1::OfferTask& offer,
                                       const std::string& model_path,
                                       const std::atomic<bool>& stop) override;

 private:
  TrainerSet(Env* env, const Clock* clock, const LocalDatasets* datasets,
             const NativeTrainer::Options& native)
      : native_(env, clock, datasets, native) {}

  absl::StatusOr<Trainer*> Find(const v1::OfferTask& offer);

  NativeTrainer native_;
  std::map<std::string, std::unique_ptr<Trainer>> external_;
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_TRAIN_TRAINER_SET_H_
