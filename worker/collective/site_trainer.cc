#include "worker/collective/site_trainer.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status_macros.h"

namespace koinon::worker {
namespace {

// What rank 0 announces: one letter, then a serialised OfferTask or nothing.
constexpr char kTrain = 'T';
constexpr char kEnd = 'E';

bool IsExternal(const v1::OfferTask& offer) {
  const std::string& name = offer.training().external_trainer();
  return !name.empty() && name != "native";
}

}  // namespace

SiteTrainer::SiteTrainer(Trainer* trainer, Communicator* communicator,
                         std::function<void(const absl::Status&)> on_broken)
    : trainer_(trainer),
      communicator_(communicator),
      on_broken_(std::move(on_broken)) {}

absl::StatusOr<v1::Metrics> SiteTrainer::TrainTogether(
    const v1::OfferTask& offer, const std::string& base_path,
    const std::string& update_path, const ProgressCallback& progress,
    const std::atomic<bool>& stop) {
  ABSL_RETURN_IF_ERROR(communicator_->Announce(
      absl::StrCat(std::string(1, kTrain), offer.SerializeAsString())));
  return trainer_->Train(offer, base_path, update_path, progress, stop);
}

absl::StatusOr<v1::Metrics> SiteTrainer::Train(const v1::OfferTask& offer,
                                               const std::string& base_path,
                                               const std::string& update_path,
                                               const ProgressCallback& progress,
                                               const std::atomic<bool>& stop) {
  if (communicator_->broken()) {
    return absl::UnavailableError("the site's ranks cannot go on together");
  }
  if (IsExternal(offer)) {
    return trainer_->Train(offer, base_path, update_path, progress, stop);
  }
  const absl::StatusOr<v1::Metrics> metrics =
      TrainTogether(offer, base_path, update_path, progress, stop);
  if (communicator_->broken() && !told_) {
    told_ = true;
    on_broken_(metrics.status());
  }
  return metrics;
}

absl::StatusOr<v1::Metrics> SiteTrainer::Evaluate(
    const v1::OfferTask& offer, const std::string& model_path,
    const std::atomic<bool>& stop) {
  return trainer_->Evaluate(offer, model_path, stop);
}

absl::Status FollowSite(Trainer* trainer, Communicator* communicator) {
  const std::atomic<bool> never = false;  // rank 0 stops for all
  const std::string none;                 // rank 0 has the files
  while (true) {
    ABSL_ASSIGN_OR_RETURN(const std::string message,
                          communicator->AwaitAnnouncement());
    if (message.empty() || message[0] == kEnd) return absl::OkStatus();
    v1::OfferTask offer;
    if (message[0] != kTrain || !offer.ParseFromString(message.substr(1))) {
      // Of another version than rank 0: nothing that it says will be
      // understood.
      return absl::UnavailableError("rank 0 said what this one cannot read");
    }
    LogInfo("training", {{"rank", communicator->place().rank},
                         {"job", offer.task().job()},
                         {"round", offer.task().round()}});
    const absl::StatusOr<v1::Metrics> metrics =
        trainer->Train(offer, none, none, nullptr, never);
    if (communicator->broken()) return metrics.status();
    if (!metrics.ok()) {
      LogWarning("task failed", {{"rank", communicator->place().rank},
                                 {"reason", metrics.status()}});
    }
  }
}

void SendHome(Communicator* communicator) {
  if (communicator->broken()) return;
  const absl::Status status = communicator->Announce(std::string(1, kEnd));
  if (!status.ok()) {
    LogWarning("ranks were not sent home", {{"reason", status}});
  }
}

}  // namespace koinon::worker
