#ifndef KOINON_COORDINATOR_DISTRIBUTION_PEER_NETWORK_H_
#define KOINON_COORDINATOR_DISTRIBUTION_PEER_NETWORK_H_

#include <optional>

#include "absl/status/status.h"
#include "coordinator/distribution/distributor.h"
#include "dht/peer.h"

namespace koinon::coordinator {

// A peer as the distributor writes to the DHT through it; borrowed.
class PeerNetwork final : public RecordNetwork {
 public:
  explicit PeerNetwork(dht::Peer* peer) : peer_(peer) {}

  std::optional<v1::Contact> Self() override;
  // Two coordinators that each take themselves for the job's are an alarm in
  // the log.
  absl::Status Put(const KeyedRecord& record) override;
  void Provide(const dht::Key& content) override { peer_->Provide(content); }
  void StopProviding(const dht::Key& content) override {
    peer_->StopProviding(content);
  }

 private:
  dht::Peer* const peer_;
};

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_DISTRIBUTION_PEER_NETWORK_H_
