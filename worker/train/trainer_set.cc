#include "worker/train/trainer_set.h"

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "kernels/graph/control_variates.h"
#include "worker/train/external_trainer.h"

namespace koinon::worker {
namespace {

constexpr absl::string_view kNative = "native";

}  // namespace

absl::StatusOr<std::unique_ptr<TrainerSet>> TrainerSet::Create(
    Env* env, const Clock* clock, const LocalDatasets* datasets,
    const Options& options) {
  auto set = std::unique_ptr<TrainerSet>(
      new TrainerSet(env, clock, datasets, options.native));
  for (const ExternalTrainerConfig& config : options.external) {
    ABSL_ASSIGN_OR_RETURN(
        auto trainer,
        ExternalTrainer::Create(
            env, clock, datasets,
            absl::StrCat(options.scratch_dir, "/", config.name()), config));
    if (!set->external_.emplace(config.name(), std::move(trainer)).second) {
      return absl::InvalidArgumentError(
          absl::StrFormat("external trainer %s: expected each name once, found "
                          "twice",
                          config.name()));
    }
  }
  return set;
}

std::vector<std::string> TrainerSet::external_names() const {
  std::vector<std::string> names;
  for (const auto& [name, trainer] : external_) names.push_back(name);
  return names;
}

absl::StatusOr<Trainer*> TrainerSet::Find(const v1::OfferTask& offer) {
  ABSL_RETURN_IF_ERROR(kernels::CheckScaffoldTraining(offer.training()));
  const std::string& name = offer.training().external_trainer();
  if (name.empty() || name == kNative) return &native_;
  const auto found = external_.find(name);
  if (found != external_.end()) return found->second.get();
  std::vector<std::string> known = external_names();
  known.insert(known.begin(), std::string(kNative));
  return absl::NotFoundError(absl::StrFormat(
      "trainer \"%s\": this worker has none of that name; it has: %s",
      absl::Utf8SafeCEscape(name), absl::StrJoin(known, ", ")));
}

absl::StatusOr<v1::Metrics> TrainerSet::Train(const v1::OfferTask& offer,
                                              const std::string& base_path,
                                              const std::string& update_path,
                                              const ProgressCallback& progress,
                                              const std::atomic<bool>& stop) {
  ABSL_ASSIGN_OR_RETURN(Trainer* const trainer, Find(offer));
  return trainer->Train(offer, base_path, update_path, progress, stop);
}

absl::StatusOr<v1::Metrics> TrainerSet::Evaluate(
    const v1::OfferTask& offer, const std::string& model_path,
    const std::atomic<bool>& stop) {
  ABSL_ASSIGN_OR_RETURN(Trainer* const trainer, Find(offer));
  return trainer->Evaluate(offer, model_path, stop);
}

}  // namespace koinon::worker
