#ifndef KOINON_WORKER_CAPABILITIES_H_
#define KOINON_WORKER_CAPABILITIES_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "proto/worker.pb.h"
#include "worker/data/dataset.h"

namespace koinon::worker {

// Processors that this process may run on.
int AvailableCores();

// What this worker tells a coordinator of itself: the machine as this process
// may use it, and its data by name and count, never by path.
v1::Capabilities LocalCapabilities(
    const LocalDatasets& datasets,
    const std::vector<std::string>& external_trainers);

// Finds before anything is fetched that Koinon's kernels cannot train the
// offer's model on the offer's data. INVALID_ARGUMENT, saying what both want;
// FAILED_PRECONDITION for bfloat16 on a processor that has none. OK for an
// external trainer: what it can do, only it knows.
absl::Status CheckModelFitsData(const LocalDatasets& datasets,
                                const v1::OfferTask& offer);

}  // namespace koinon::worker

#endif  // KOINON_WORKER_CAPABILITIES_H_
