#ifndef KOINON_COORDINATOR_DISTRIBUTION_TIMELINE_H_
#define KOINON_COORDINATOR_DISTRIBUTION_TIMELINE_H_

#include <cstdint>
#include <map>
#include <vector>

#include "absl/status/status.h"
#include "base/ids.h"
#include "base/local_node.h"
#include "coordinator/distribution/record_network.h"
#include "coordinator/distribution/version_records.h"
#include "proto/job.pb.h"
#include "proto/model.pb.h"

namespace koinon::coordinator {

// Stores versions' records so that they are the ones that count, also where the
// nodes hold records of versions that this coordinator does not know: of a life
// that it had before its state was restored from an older copy, or before a job
// was recovered whose last version had not got a head. What they say of the
// same names then has the same numbers or greater ones, and nodes replace none
// by a smaller. So the job's records are signed with a greater epoch from then
// on: for whoever reads, numbers only grow, and what lives wins.
//
// The epoch is kept in memory alone: after a restart it is learnt anew, from
// the first record that nodes refuse. Not thread-safe; what is passed is
// borrowed.
class Timeline {
 public:
  Timeline(RecordNetwork* network, const LocalNode* signer)
      : network_(network), signer_(signer) {}

  // Stores them in their order, up to the first one that cannot be stored.
  // Errors: of RecordsOf, of RecordNetwork::Put; nodes that go on refusing (as
  // where two coordinators live, each of which takes the job for its own) end
  // it with what they say, and the next attempt goes on from there.
  absl::Status Store(const v1::JobSpec& spec, const v1::ModelManifest& manifest,
                     bool newest);

 private:
  absl::Status StoreAll(const std::vector<KeyedRecord>& records,
                        const v1::ModelManifest& manifest);
  bool LearnEpoch(const KeyedRecord& record,
                  const RecordNetwork::Placed& placed,
                  const v1::ModelManifest& manifest);

  RecordNetwork* const network_;
  const LocalNode* const signer_;
  std::map<JobId, uint64_t>
      least_epochs_;  // of jobs whose records were others'
};

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_DISTRIBUTION_TIMELINE_H_
