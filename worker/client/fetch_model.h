#ifndef KOINON_WORKER_CLIENT_FETCH_MODEL_H_
#define KOINON_WORKER_CLIENT_FETCH_MODEL_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "base/env.h"
#include "proto/worker.pb.h"
#include "worker/client/cancellation.h"
#include "worker/client/coordinator_client.h"
#include "worker/store/model_cache.h"

namespace koinon::worker {

struct FetchBounds {
  int64_t max_model_bytes = int64_t{16} << 30;
  int64_t max_chunk_bytes = 4 << 20;
};

// Brings the offer's base version into the cache, from where an earlier attempt
// broke off. A chunk that arrives damaged is pulled again, a few times.
//
// UNAVAILABLE and DEADLINE_EXCEEDED: try again later. DATA_LOSS: the
// coordinator keeps sending other bytes than it should. RESOURCE_EXHAUSTED: the
// disk is full, or the model is over a bound. CANCELLED.
absl::StatusOr<std::unique_ptr<ModelCache::Lease>> FetchModelFor(
    const v1::OfferTask& offer, CoordinatorClient* client, Env* env,
    ModelCache* cache, const FetchBounds& bounds, Cancellation* cancellation);

}  // namespace koinon::worker

#endif  // KOINON_WORKER_CLIENT_FETCH_MODEL_H_
