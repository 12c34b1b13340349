#ifndef KOINON_COORDINATOR_DISTRIBUTION_TESTING_NETWORK_H_
#define KOINON_COORDINATOR_DISTRIBUTION_TESTING_NETWORK_H_

#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "base/check.h"
#include "base/env.h"
#include "base/local_node.h"
#include "base/mutex.h"
#include "coordinator/distribution/record_network.h"
#include "dht/records/rejection.h"
#include "dht/store/record_store.h"

namespace koinon::coordinator {

// A DHT of one node, which keeps records as every node does: it refuses and
// pushes out what they would. Of the coordinator that signs as `signer`.
class StoreNetwork : public RecordNetwork {
 public:
  explicit StoreNetwork(const LocalNode& signer,
                        dht::RecordStore::Options options = {})
      : writer_(signer.id) {
    dht::RecordTrust trust;
    trust.federation = signer.federation;
    trust.pinned = {signer.key.public_key()};
    auto store = dht::RecordStore::Open(RealEnv(), "", options,
                                        std::move(trust), absl::Now());
    KOINON_CHECK(store.ok());
    store_ = *std::move(store);
  }

  std::optional<v1::Contact> Self() override { return v1::Contact(); }
  Placed Put(const KeyedRecord& record) override {
    MutexLock lock(&mutex_);
    Placed placed;
    placed.status =
        store_->Put(record.key, record.record, writer_, absl::Now());
    const auto reason = dht::RejectionOf(placed.status);
    placed.contested = reason == dht::Rejection::kRolledBack ||
                       reason == dht::Rejection::kEquivocation;
    return placed;
  }
  absl::StatusOr<dht::OpenedRecord> Newest(const dht::Key& key) override {
    MutexLock lock(&mutex_);
    auto stored = store_->Get(key, absl::Now());
    if (!stored.has_value()) return absl::NotFoundError("not here");
    return std::move(stored->opened);
  }
  void Provide(const dht::Key&) override {}
  void StopProviding(const dht::Key&) override {}

 private:
  const dht::Key writer_;
  Mutex mutex_;
  std::unique_ptr<dht::RecordStore> store_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_DISTRIBUTION_TESTING_NETWORK_H_
