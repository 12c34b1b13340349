#ifndef KOINON_DHT_TRANSPORT_GRPC_TRANSPORT_H_
#define KOINON_DHT_TRANSPORT_GRPC_TRANSPORT_H_

#include <memory>

#include "absl/container/flat_hash_set.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "dht/key.h"
#include "dht/peer_policy.h"
#include "dht/transport/channels.h"
#include "dht/transport/strand.h"
#include "dht/transport/transport.h"
#include "proto/dht.pb.h"

namespace koinon::dht {

// Questions over gRPC (PeerService.Ask). Answers are checked on gRPC's threads,
// who gave them too, and handed to the strand. Thread-safe.
class GrpcTransport final : public Transport {
 public:
  // `self`: what questions say of who asks. Pointers are borrowed; the policy
  // says who may have answered.
  GrpcTransport(Contact self, Strand* strand, Channels* channels,
                const PeerPolicy* policy);
  // As Stop.
  ~GrpcTransport() override;

  void Ask(const Contact& to, v1::AskRequest question, absl::Duration deadline,
           Done done) override;
  const Contact& self() const { return self_; }

  // Cancels the questions that are out and asks none any more. Returns when all
  // have ended; what they would have told is dropped with the strand. Not from
  // the strand.
  void Stop();

 private:
  struct Call;
  void OnAnswer(const std::shared_ptr<Call>& call, const grpc::Status& status);
  absl::Status CheckAnswer(Call* call) const;

  const Contact self_;
  const v1::Contact sender_;
  Strand* const strand_;
  Channels* const channels_;
  const PeerPolicy* const policy_;
  Mutex mutex_;
  CondVar ended_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  // Shared with gRPC's callback, and then the strand.
  absl::flat_hash_set<std::shared_ptr<Call>> out_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_TRANSPORT_GRPC_TRANSPORT_H_
