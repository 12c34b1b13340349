#ifndef KOINON_WORKER_MODELS_OFFERED_MANIFEST_H_
#define KOINON_WORKER_MODELS_OFFERED_MANIFEST_H_

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "dht/records/signed.h"
#include "proto/model.pb.h"
#include "proto/worker.pb.h"

namespace koinon::worker {

// The manifest that came with an offer, if it verifies and is of the very
// version that the task is to start from: job, version, digest, layout and
// submission. Who can send offers but cannot sign can so at worst withhold a
// version. Pure.
//
// FAILED_PRECONDITION if there is none: the coordinator is older than this
// worker. Otherwise RejectedErrors, kMismatch for another version.
absl::StatusOr<v1::VersionManifest> OpenOfferedManifest(
    const v1::OfferTask& offer, const dht::RecordTrust& trust, absl::Time now);

}  // namespace koinon::worker

#endif  // KOINON_WORKER_MODELS_OFFERED_MANIFEST_H_
