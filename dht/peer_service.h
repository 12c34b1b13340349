#ifndef KOINON_DHT_PEER_SERVICE_H_
#define KOINON_DHT_PEER_SERVICE_H_

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "dht/key.h"
#include "dht/peer_policy.h"
#include "dht/records/rejection.h"
#include "dht/swarm/serve.h"
#include "dht/transport/rate_limit.h"
#include "dht/transport/strand.h"
#include "grpcpp/grpcpp.h"
#include "proto/dht.grpc.pb.h"

namespace koinon::dht {

// Fetch in bytes, as Seeder serves it.
using PeerServiceBase = v1::PeerService::WithCallbackMethod_Ask<
    v1::PeerService::WithRawCallbackMethod_Fetch<
        v1::PeerService::WithCallbackMethod_GetNodeStatus<
            v1::PeerService::Service>>>;

// What a node answers: who asks is checked, then how often, then the node is
// asked on its strand. Thread-safe.
class PeerServiceImpl final : public PeerServiceBase {
 public:
  // Everything is borrowed.
  struct Parts {
    const PeerPolicy* policy = nullptr;
    Strand* strand = nullptr;
    Seeder* seeder = nullptr;
    RejectionCounts* rejections = nullptr;
    const Clock* clock = nullptr;
    RateLimit::Options rate;
    // On the strand.
    std::function<absl::StatusOr<v1::AskReply>(const Contact& from,
                                               const v1::AskRequest& question)>
        answer;
    std::function<v1::NodeStatus()> status;
  };
  explicit PeerServiceImpl(Parts parts);

  grpc::ServerUnaryReactor* Ask(grpc::CallbackServerContext* context,
                                const v1::AskRequest* question,
                                v1::AskReply* reply) override;
  Seeder::Reactor* Fetch(grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* GetNodeStatus(grpc::CallbackServerContext* context,
                                          const v1::NodeStatusRequest* request,
                                          v1::NodeStatus* reply) override;

 private:
  absl::StatusOr<Contact> Admit(const grpc::CallbackServerContext& context,
                                const v1::AskRequest& question);
  absl::Status CheckRate(const Key& who);

  const Parts parts_;
  Mutex mutex_;
  RateLimit rate_ ABSL_GUARDED_BY(mutex_);
};

// Who a member is, for counting: its node, or else its name.
Key CountedAs(const PeerIdentity& who);

// Who fetches, as the seeder counts and believes it.
Seeder::Caller CallerOf(const PeerIdentity& who);

}  // namespace koinon::dht

#endif  // KOINON_DHT_PEER_SERVICE_H_
