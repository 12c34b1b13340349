#ifndef KOINON_WORKER_COLLECTIVE_TESTING_COMMUNICATOR_H_
#define KOINON_WORKER_COLLECTIVE_TESTING_COMMUNICATOR_H_

#include <functional>
#include <vector>

#include "absl/time/time.h"
#include "worker/collective/communicator.h"

namespace koinon::worker {

// What a rank of a site of threads is told when it is made.
struct ThreadSiteOptions {
  int ranks = 2;
  absl::Duration patience = absl::Seconds(60);
  std::vector<double> cores = {2};  // Place.cores of each, from the first again
};

// Runs `rank_main` in one thread for each rank of a site in this process, whose
// communicators keep the contract of Communicator, all on one node; returns
// when all have ended. Abort ends the process.
void RunRanks(const ThreadSiteOptions& options,
              const std::function<void(Communicator*)>& rank_main);

}  // namespace koinon::worker

#endif  // KOINON_WORKER_COLLECTIVE_TESTING_COMMUNICATOR_H_
