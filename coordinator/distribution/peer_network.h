#ifndef KOINON_COORDINATOR_DISTRIBUTION_PEER_NETWORK_H_
#define KOINON_COORDINATOR_DISTRIBUTION_PEER_NETWORK_H_

#include <optional>

#include "absl/status/statusor.h"
#include "coordinator/distribution/record_network.h"
#include "dht/peer.h"

namespace koinon::coordinator {

// A peer as the distributor writes to the DHT through it; borrowed.
class PeerNetwork final : public RecordNetwork {
 public:
  explicit PeerNetwork(dht::Peer* peer) : peer_(peer) {}

  std::optional<v1::Contact> Self() override;
  Placed Put(const KeyedRecord& record) override;
  // In plaintext NOT_FOUND also for what another key has signed as the server
  // (that of a life whose key was lost): no signature says there whose it is.
  absl::StatusOr<dht::OpenedRecord> Newest(const dht::Key& key) override;
  void Provide(const dht::Key& content) override { peer_->Provide(content); }
  void StopProviding(const dht::Key& content) override {
    peer_->StopProviding(content);
  }

 private:
  dht::Peer* const peer_;
};

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_DISTRIBUTION_PEER_NETWORK_H_
