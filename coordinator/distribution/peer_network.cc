#include "coordinator/distribution/peer_network.h"

#include <string>
#include <utility>

#include "dht/records/rejection.h"
#include "dht/records/signed.h"

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
  dht::Node::GetOptions options;
  options.newest = true;
  auto got = peer_->GetNow(key, options);
  const bool plaintext = peer_->trust().authority == nullptr;
  if (!got.ok()) {
    if (plaintext && IsContest(dht::RejectionOf(got.status()))) {
      return absl::NotFoundError(got.status().message());
    }
    return got.status();
  }
  if (!plaintext) return std::move(got->opened);
  const dht::RecordTrust own = {.federation = peer_->local().federation,
                                .pinned = {peer_->local().key.public_key()}};
  auto opened = dht::OpenRecord(key, got->record, own, peer_->clock().Now());
  if (!opened.ok()) return absl::NotFoundError(opened.status().message());
  return opened;
}

}  // namespace koinon::coordinator
