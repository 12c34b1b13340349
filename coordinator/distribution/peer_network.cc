#include "coordinator/distribution/peer_network.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/signing.h"
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
  const PublicKey& own = peer_->local().key.public_key();
  dht::Node::GetOptions options;
  options.newest = true;
  options.signer = own;
  auto got = peer_->GetNow(key, options);
  const bool plaintext = peer_->trust().authority == nullptr;
  if (!got.ok()) {
    if (plaintext && absl::IsFailedPrecondition(got.status())) {  // of others
      return absl::NotFoundError(got.status().message());
    }
    return got.status();
  }
  if (plaintext && got->opened.is_mutable && got->opened.signing_key != own) {
    return absl::NotFoundError(absl::StrCat("signed by ",
                                            got->opened.signing_key.ToHex(),
                                            ", which is not this coordinator"));
  }
  return std::move(got->opened);
}

}  // namespace koinon::coordinator
