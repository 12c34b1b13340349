#ifndef KOINON_WORKER_COLLECTIVE_SITE_TRAINER_H_
#define KOINON_WORKER_COLLECTIVE_SITE_TRAINER_H_

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/collective/communicator.h"
#include "worker/train/trainer.h"

namespace koinon::worker {

// Rank 0's trainer: tells the other ranks of each task that all train, then
// trains its own part. Tasks for external trainers, and evaluations, it does
// alone.
//
// The other ranks run FollowSite until SendHome.
class SiteTrainer final : public Trainer {
 public:
  // trainer: trains as a rank of `communicator`; both must outlive this.
  // on_broken: called from the training thread, once, with the reason, when the
  // ranks cannot go on together; what follows is Communicator::Abort.
  SiteTrainer(Trainer* trainer, Communicator* communicator,
              std::function<void(const absl::Status&)> on_broken);

  // UNAVAILABLE if the ranks cannot go on together; otherwise as the trainer.
  absl::StatusOr<v1::Metrics> Train(const v1::OfferTask& offer,
                                    const std::string& base_path,
                                    const std::string& update_path,
                                    const ProgressCallback& progress,
                                    const std::atomic<bool>& stop) override;
  absl::StatusOr<v1::Metrics> Evaluate(const v1::OfferTask& offer,
                                       const std::string& model_path,
                                       const std::atomic<bool>& stop) override;

 private:
  absl::StatusOr<v1::Metrics> TrainTogether(const v1::OfferTask& offer,
                                            const std::string& base_path,
                                            const std::string& update_path,
                                            const ProgressCallback& progress,
                                            const std::atomic<bool>& stop);

  Trainer* const trainer_;
  Communicator* const communicator_;
  const std::function<void(const absl::Status&)> on_broken_;
  bool told_ = false;
};

// What every other rank does: trains its part of what rank 0 says. Returns OK
// when rank 0 sends it home, UNAVAILABLE when the ranks cannot go on together.
// A task that fails for reasons of its own fails on every rank and is no reason
// to end.
absl::Status FollowSite(Trainer* trainer, Communicator* communicator);

// Rank 0's last word to the others: FollowSite ends. Nothing if the ranks
// cannot go on together.
void SendHome(Communicator* communicator);

}  // namespace koinon::worker

#endif  // KOINON_WORKER_COLLECTIVE_SITE_TRAINER_H_
