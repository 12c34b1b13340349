#ifndef KOINON_COORDINATOR_DISTRIBUTION_RECORD_NETWORK_H_
#define KOINON_COORDINATOR_DISTRIBUTION_RECORD_NETWORK_H_

#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/distribution/version_records.h"
#include "dht/key.h"
#include "dht/records/signed.h"
#include "proto/dht.pb.h"

namespace koinon::coordinator {

// The DHT, as the coordinator writes to it. Thread-safe.
class RecordNetwork {
 public:
  virtual ~RecordNetwork() = default;
  virtual std::optional<v1::Contact> Self() = 0;

  struct Placed {
    absl::Status status;  // OK: enough nodes hold it
    // Nodes say that they have a newer record of this key, or one that is as
    // new and different. `status` may be OK all the same.
    bool contested = false;
  };
  // Waits until enough nodes hold the record.
  virtual Placed Put(const KeyedRecord& record) = 0;
  // The newest record of this key, as the nodes nearest to it have it, verified
  // here. NOT_FOUND if they have none that can be; a RejectedError of
  // kEquivocation if two different ones are the newest; UNAVAILABLE if nobody
  // answers.
  virtual absl::StatusOr<dht::OpenedRecord> Newest(const dht::Key& key) = 0;

  virtual void Provide(const dht::Key& content) = 0;
  virtual void StopProviding(const dht::Key& content) = 0;
};

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_DISTRIBUTION_RECORD_NETWORK_H_
