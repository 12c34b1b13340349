#ifndef KOINON_COORDINATOR_DISTRIBUTION_VERSION_RECORDS_H_
#define KOINON_COORDINATOR_DISTRIBUTION_VERSION_RECORDS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/local_node.h"
#include "dht/key.h"
#include "proto/dht.pb.h"
#include "proto/job.pb.h"
#include "proto/model.pb.h"

namespace koinon::coordinator {

// What the DHT is told of a version (docs/formats/record.md).

struct KeyedRecord {
  dht::Key key;
  v1::Record record;
};

// A job's specification as a record carries it: the same bytes for the same
// specification.
std::string EncodeJobSpec(const v1::JobSpec& spec);

// In the order in which they are to be stored, so that whoever finds one finds
// what it points to: the signed manifest; with `newest`, the job's
// specification, unless it is too large for a record; the version's name; with
// `newest`, the job's head.
//
// The named ones have the time of the job's submission as their epoch, or
// `least_epoch` if that is greater (JobRow::records_epoch).
//
// Errors as dht::SignRecord and SignedVersionOf.
absl::StatusOr<std::vector<KeyedRecord>> RecordsOf(
    const v1::JobSpec& spec, const v1::ModelManifest& manifest, bool newest,
    uint64_t least_epoch, const LocalNode& signer);

// The sequence of the named ones: a later version's is greater, and so is that
// of a later signature of the same version.
uint64_t SequenceOf(const v1::ModelManifest& manifest);
// How often the version had been signed whose head has this sequence.
int64_t SignaturesOf(uint64_t sequence);

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_DISTRIBUTION_VERSION_RECORDS_H_
