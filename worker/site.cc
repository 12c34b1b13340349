#include "worker/site.h"

#include <unistd.h>

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "worker/capabilities.h"
#include "worker/collective/core_share.h"
#include "worker/collective/data_fingerprint.h"
#include "worker/collective/mpi_communicator.h"

namespace koinon::worker {

absl::StatusOr<std::unique_ptr<Site>> Site::Join(const WorkerConfig& config,
                                                 const Clock* clock) {
  std::unique_ptr<Site> site(new Site);
  if (config.mpi == "off" || (config.mpi == "auto" && !StartedByMpi())) {
    return site;
  }
  ABSL_ASSIGN_OR_RETURN(site->session_, MpiSession::Start());
  MpiCommunicator::Options options;
  options.clock = clock;
  options.patience = absl::Seconds(config.mpi_timeout_seconds);
  absl::StatusOr<std::unique_ptr<Communicator>> communicator =
      MpiCommunicator::Create(options);
  if (!communicator.ok()) {
    // The end of the session would wait for ranks that may never come.
    LogError("the site ends", {{"error", communicator.status()}});
    MpiSession::Abort();
  }
  site->communicator_ = *std::move(communicator);
  const Communicator::Place& place = site->communicator_->place();
  LogInfo("rank ready", {{"rank", place.rank},
                         {"ranks", place.size},
                         {"node", place.node},
                         {"nodes", place.nodes},
                         {"pid", static_cast<int64_t>(getpid())}});
  return site;
}

bool Site::leads() const {
  return communicator_ == nullptr || communicator_->place().rank == 0;
}

absl::Status Site::Agree(const absl::Status& own) const {
  return communicator_ == nullptr ? own
                                  : AgreeOnStatus(communicator_.get(), own);
}

absl::Status Site::AgreeOnData(const LocalDatasets& datasets) const {
  if (communicator_ == nullptr) return absl::OkStatus();
  const absl::Status agreed = AgreeOnDigest(
      communicator_.get(), "--dataset: the data that this rank has read",
      DataFingerprint(datasets));
  // To be mended by whoever set the site up: another start would not help.
  return absl::IsInternal(agreed)
             ? absl::FailedPreconditionError(agreed.message())
             : agreed;
}

int Site::Threads(int threads) const {
  if (threads > 0) return threads;
  return communicator_ == nullptr ? AvailableCores()
                                  : ThreadsOn(communicator_->place().cores);
}

void Site::Break(const absl::Status& status) {
  MutexLock lock(&mutex_);
  if (broken_.empty()) broken_ = std::string(status.message());
}

std::string Site::EndReason(const std::string& otherwise) const {
  {
    MutexLock lock(&mutex_);
    if (!broken_.empty()) return broken_;
  }
  if (communicator_ == nullptr) return otherwise;
  // mpirun ends the others when one dies, before they may have noticed.
  const std::vector<int> dead = communicator_->DeadRanks();
  return dead.empty() ? otherwise
                      : absl::StrCat(communicator_->NameOf(dead[0]), " died");
}

void Site::AbortIfBroken() const {
  if (communicator_ == nullptr) return;
  if (communicator_->broken() || !communicator_->DeadRanks().empty()) {
    communicator_->Abort(EndReason("the ranks cannot go on together"));
  }
}

}  // namespace koinon::worker
