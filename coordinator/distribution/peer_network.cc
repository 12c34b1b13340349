#include "coordinator/distribution/peer_network.h"

#include <string>
#include <utility>

#include "dht/records/rejection.h"

namespace koinon::coordinator {
namespace {

using dht::Rejection;

bool IsContest(std::optional<Rejection> reason) {
  return reason == Rejection::kEquivocation || reason == Rejection::kRolledBack;
}

}  // namespace

std::optional<v1::Contact> PeerNetwork::Self() {
  return dht::ContactToProto(peer_->self());
}

RecordNetwork::Placed PeerNetwork::Put(const KeyedRecord& record) {
  const auto put = peer_->PutNow(record.key, record.record);
  if (!put.ok()) {
    return {.status = put.status(),
            .contested = IsContest(dht::RejectionOf(put.status()))};
  }
  Placed placed;
  for (const auto& [reason, nodes] : put->rejections) {
    placed.contested |= IsContest(dht::RejectionFromName(reason));
  }
  return placed;
}

absl::StatusOr<dht::OpenedRecord> PeerNetwork::Newest(const dht::Key& key) {
  if (peer_->trust().authority == nullptr) {
    return absl::NotFoundError("in plaintext no signature says whose it is");
  }
  dht::Node::GetOptions options;
  options.newest = true;
  auto got = peer_->GetNow(key, options);
  if (!got.ok()) return got.status();
  return std::move(got->opened);
}

}  // namespace koinon::coordinator
