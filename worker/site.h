#ifndef KOINON_WORKER_SITE_H_
#define KOINON_WORKER_SITE_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "worker/collective/communicator.h"
#include "worker/collective/mpi_session.h"
#include "worker/config.h"
#include "worker/data/dataset.h"

namespace koinon::worker {

// This process's part in its site: one rank of those that mpirun started, of
// which rank 0 is the worker that the coordinator knows; or the whole of it.
//
// Made and destroyed by the main thread, around everything that trains.
class Site {
 public:
  // Touches MPI only if the configuration (--mpi) wants it. The clock must
  // outlive the site.
  static absl::StatusOr<std::unique_ptr<Site>> Join(const WorkerConfig& config,
                                                    const Clock* clock);

  // Null for a process on its own.
  Communicator* communicator() const { return communicator_.get(); }
  bool leads() const;

  // `own`; in a site, an error if it is one on any rank.
  absl::Status Agree(const absl::Status& own) const;
  // In a site, INTERNAL unless all ranks have read the same data.
  absl::Status AgreeOnData(const LocalDatasets& datasets) const;
  // What `threads`, a configuration's, comes to: 0 is this process's share of
  // the processors.
  int Threads(int threads) const;

  // The ranks cannot go on together, for this reason: what ends the worker is
  // not its operator. Any thread.
  void Break(const absl::Status& status);
  // Why the worker ends: the reason of Break, a rank that died, or `otherwise`.
  std::string EndReason(const std::string& otherwise) const;

  // Ends all ranks as failed if they cannot go on together.
  void AbortIfBroken() const;

 private:
  Site() = default;

  // In this order: MPI ends last.
  std::unique_ptr<MpiSession> session_;
  std::unique_ptr<Communicator> communicator_;
  mutable Mutex mutex_;
  std::string broken_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_SITE_H_
