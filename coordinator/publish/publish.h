#ifndef KOINON_COORDINATOR_PUBLISH_PUBLISH_H_
#define KOINON_COORDINATOR_PUBLISH_PUBLISH_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "aggregation/core/aggregator.h"
#include "aggregation/core/update_set.h"
#include "base/ids.h"
#include "base/thread_pool.h"
#include "coordinator/journal/journal.h"
#include "coordinator/models/manifest_signer.h"
#include "coordinator/models/model_store.h"
#include "coordinator/spool/spool.h"
#include "proto/job.pb.h"
#include "proto/model.pb.h"

namespace koinon::coordinator {

struct PublishOptions {
  aggregation::AggregatorOptions aggregator;
  // Required.
  const ManifestSigner* signer = nullptr;
  // A version of at least so many bytes gets a delta from the one before, if
  // that is here. 0: none does.
  int64_t delta_min_bytes = 0;
};

// Writes version 0 of a job, and signs it: the model's seeded initial values,
// or the values of `initial` (the version that spec.initial_model names; its
// layout, control variates left aside, must be the model's). With
// training.scaffold, zeros follow as the server's control variate, whatever
// `initial` has: it is the mean of the workers' own, and those start at zero in
// each job. `submitted`: when the job was. Blocks only: memory does not grow
// with the model.
absl::StatusOr<v1::ModelManifest> PublishInitialModel(
    ModelStore* store, const v1::JobSpec& spec, absl::Time submitted,
    const v1::ModelManifest* initial, const PublishOptions& options);

// What closed a round.
struct RoundInput {
  v1::JobSpec spec;
  absl::Time submitted;  // the job
  int64_t round = 0;
  v1::ModelManifest base;
  std::vector<StateFile> base_state;  // VersionRow.state of the base
  std::vector<AcceptedRow> updates;
  // The sum of exactly these updates, if they were added up on arrival.
  std::optional<FoldRow> sum;
  // Workers that were in a cohort of the job up to this round, and before it.
  int64_t asked = 0;
  int64_t asked_before = 0;
  double seconds_open = 0;
};

struct PublishedRound {
  absl::Status status;
  // Of the new version; only if the status is OK.
  v1::ModelManifest manifest;
  std::vector<StateFile> state;  // VersionRow.state of the new version
  v1::AggregationReport report;
  // Updates that turned out unusable, whatever the status; not in the version.
  std::vector<aggregation::Refusal> refusals;
  double seconds = 0;  // of aggregating and writing
};

// Name of the state in which a rule's last result is kept, for rules that want
// it; the other names are the server optimizer's.
inline constexpr char kKeptAggregate[] = "aggregate";

// Aggregates a closed round's updates (spooled, or added up already) and writes
// version `round`: base plus the server's step, and beside it the state that
// the next round begins from. The aggregate goes from the rule through a chain
// of sinks to the server's step (aggregation/server/server_step.h), block by
// block.
//
// The bytes depend on the updates, the base with its state, and the job alone,
// so that doing it again after a crash gives the same version; only its
// signature says when it was made. After a failure
// nothing of it is left: a round advances state only with its version. The
// status: the rule's FAILED_PRECONDITION, the spool's, the store's; DATA_LOSS
// if the base's state or the sum is missing or corrupt; INTERNAL, naming the
// element, if the step overflows.
PublishedRound PublishRound(ModelStore* store, const Spool& spool,
                            ThreadPool* pool, const RoundInput& input,
                            const PublishOptions& options);

// Removes what PublishRound wrote and nobody will commit. What is not there is
// no error.
absl::Status RemovePublished(ModelStore* store, const JobId& job,
                             int64_t version,
                             absl::Span<const StateFile> state);

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_PUBLISH_PUBLISH_H_
