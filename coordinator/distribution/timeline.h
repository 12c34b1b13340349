#ifndef KOINON_COORDINATOR_DISTRIBUTION_TIMELINE_H_
#define KOINON_COORDINATOR_DISTRIBUTION_TIMELINE_H_

#include <cstdint>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "base/ids.h"
#include "base/local_node.h"
#include "coordinator/distribution/record_network.h"
#include "coordinator/distribution/version_records.h"
#include "dht/records/signed.h"
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
// Only where somebody has said so: a copy of the state that starts for any
// other reason would take the head from the coordinator that lives.
//
// The epoch is kept in memory alone: after a restart it is learnt anew, from
// the first record that nodes refuse; to go on in it needs nobody's word. Not
// thread-safe; what is passed is borrowed.
class Timeline {
 public:
  // Jobs whose older state somebody wants to live.
  struct Restored {
    bool all = false;
    std::set<JobId> jobs = {};
    bool Has(const JobId& job) const { return all || jobs.contains(job); }
  };

  Timeline(RecordNetwork* network, const LocalNode* signer, Restored restored)
      : network_(network), signer_(signer), restored_(std::move(restored)) {}

  // Stores them in their order, up to the first one that cannot be stored.
  // Errors: of RecordsOf, of RecordNetwork::Put; ABORTED where enough nodes
  // hold the record, but others hold a newer one that counts; nodes that go on
  // refusing end it with what they say, and the next attempt goes on from
  // there.
  absl::Status Store(const v1::JobSpec& spec, const v1::ModelManifest& manifest,
                     bool newest);

 private:
  struct Life {
    uint64_t epoch = 0;     // the least; greater if others had the job's names
    int unseen_raises = 0;  // for what could not be read
    bool said_refused = false;
  };

  absl::Status StoreAll(const std::vector<KeyedRecord>& records,
                        const v1::ModelManifest& manifest, Life* life);
  bool IsOvertaken(const KeyedRecord& record,
                   const RecordNetwork::Placed& placed, const KeyedRecord& last,
                   const v1::ModelManifest& manifest, Life* life);
  bool GoOnAsHead(const dht::OpenedRecord& own, const KeyedRecord& last,
                  Life* life);
  void Raise(uint64_t others, const dht::OpenedRecord& own,
             const v1::ModelManifest& manifest, Life* life);

  RecordNetwork* const network_;
  const LocalNode* const signer_;
  const Restored restored_;
  std::map<JobId, Life> lives_;
};

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_DISTRIBUTION_TIMELINE_H_
