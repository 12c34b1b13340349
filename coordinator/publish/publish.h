#ifndef KOINON_COORDINATOR_PUBLISH_PUBLISH_H_
#define KOINON_COORDINATOR_PUBLISH_PUBLISH_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "aggregation/core/aggregator.h"
#include "aggregation/core/update_set.h"
#include "base/thread_pool.h"
#include "coordinator/journal/journal.h"
#include "coordinator/models/model_store.h"
#include "coordinator/spool/spool.h"
#include "proto/job.pb.h"
#include "proto/model.pb.h"

namespace koinon::coordinator {

// Writes version 0 of a job: the model's seeded initial values, or the values
// of `initial` (the version that spec.initial_model names; its layout must be
// the model's). Blocks only: memory does not grow with the model.
absl::StatusOr<v1::ModelManifest> PublishInitialModel(
    ModelStore* store, const v1::JobSpec& spec,
    const v1::ModelManifest* initial);

// What closed a round.
struct RoundInput {
  v1::JobSpec spec;
  int64_t round = 0;
  v1::ModelManifest base;
  std::vector<AcceptedRow> updates;
  double seconds_open = 0;
};

struct PublishedRound {
  absl::Status status;
  // Of the new version; only if the status is OK.
  v1::ModelManifest manifest;
  v1::AggregationReport report;
  // Updates that turned out unusable, whatever the status; not in the version.
  std::vector<aggregation::Refusal> refusals;
  double seconds = 0;  // of aggregating and writing
};

// Aggregates a closed round's spooled updates and writes version `round`: base
// plus aggregate. The bytes depend on the updates and the job alone, so that
// doing it again after a crash gives the same version. The status: the rule's
// FAILED_PRECONDITION, the spool's, the store's; INTERNAL if the sum is not
// finite.
PublishedRound PublishRound(ModelStore* store, const Spool& spool,
                            ThreadPool* pool, const RoundInput& input);

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_PUBLISH_PUBLISH_H_
