#include "coordinator/distribution/peer_network.h"

#include <string>

#include "base/log.h"
#include "dht/records/rejection.h"

namespace koinon::coordinator {

std::optional<v1::Contact> PeerNetwork::Self() {
  return dht::ContactToProto(peer_->self());
}

absl::Status PeerNetwork::Put(const KeyedRecord& record) {
  const auto put = peer_->PutNow(record.key, record.record);
  if (!put.ok()) return put.status();
  const auto conflicts = put->rejections.find(
      std::string(dht::RejectionName(dht::Rejection::kEquivocation)));
  if (conflicts != put->rejections.end()) {
    LogError(
        "nodes hold another record of the same name and number: is there a "
        "second coordinator of this federation, or was its state restored "
        "from an older copy?",
        {{"record", record.key.ToShortHex()}, {"nodes", conflicts->second}});
  }
  return absl::OkStatus();
}

}  // namespace koinon::coordinator
