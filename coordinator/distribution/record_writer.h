#ifndef KOINON_COORDINATOR_DISTRIBUTION_RECORD_WRITER_H_
#define KOINON_COORDINATOR_DISTRIBUTION_RECORD_WRITER_H_

#include <cstdint>
#include <set>

#include "absl/status/status.h"
#include "base/ids.h"
#include "base/local_node.h"
#include "coordinator/distribution/record_network.h"
#include "coordinator/distribution/version_records.h"
#include "dht/records/signed.h"
#include "proto/job.pb.h"
#include "proto/model.pb.h"

namespace koinon::coordinator {

// Stores versions' records, and says so where nodes hold others that count: of
// a later state of this coordinator, which lives elsewhere or did. Those stay:
// what makes a state count before another is in the journal (records_epoch of
// its jobs), and nothing that nodes say changes it. A copy that nobody has put
// in place on purpose so takes nothing from the one that lives, as long as it
// has not got further under the same epoch.
//
// Not thread-safe; what is passed is borrowed.
class RecordWriter {
 public:
  RecordWriter(RecordNetwork* network, const LocalNode* signer)
      : network_(network), signer_(signer) {}

  // Stores them in their order, up to the first one that cannot be stored.
  // Errors: of RecordsOf, of RecordNetwork::Put; ABORTED where enough nodes
  // hold the record, but others show a newer one that counts.
  absl::Status Store(const v1::JobSpec& spec, const v1::ModelManifest& manifest,
                     bool newest, uint64_t least_epoch);

 private:
  absl::Status StoreOne(const KeyedRecord& record,
                        const v1::ModelManifest& manifest);
  void SayRefused(const v1::ModelManifest& manifest,
                  const dht::OpenedRecord& own,
                  const absl::StatusOr<dht::OpenedRecord>& found);

  RecordNetwork* const network_;
  const LocalNode* const signer_;
  std::set<JobId> said_;
};

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_DISTRIBUTION_RECORD_WRITER_H_
