#ifndef KOINON_WORKER_MODELS_PEER_MODELS_H_
#define KOINON_WORKER_MODELS_PEER_MODELS_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/env.h"
#include "base/mutex.h"
#include "base/rpc_server.h"
#include "base/signing.h"
#include "base/tls.h"
#include "base/trust.h"
#include "dht/key.h"
#include "dht/peer.h"
#include "dht/records/signed.h"
#include "dht/swarm/version_cache.h"
#include "worker/models/model_source.h"
#include "worker/models/peering_spec.h"

namespace koinon::worker {

// A worker's part in the distribution layer: its node, the versions on its
// disk, and the port on which it serves them, if it serves anybody. Fetches
// base versions from other workers and, what these cannot give, from the
// coordinator. Nothing is used that the coordinator has not signed.
//
//   ABSL_ASSIGN_OR_RETURN(auto models, PeerModels::Start(spec, env, &clock));
//   options.models = models.get();
//
// Thread-safe. Models that it gave out must be let go before it ends.
class PeerModels final : public ModelSource {
 public:
  struct Spec {
    std::string worker;
    std::string coordinator;  // "host:port"
    std::string state_dir;    // node.key, dht/, models/
    TlsFiles tls;             // empty: plaintext, asked for by name
    PeeringSpec peering;
    int64_t max_model_bytes = int64_t{16} << 30;
    uint64_t max_cache_bytes = uint64_t{32} << 30;
  };

  // Listens, if it is to, and joins in the background. INVALID_ARGUMENT and
  // FAILED_PRECONDITION: what an operator has to mend; UNAVAILABLE: the address
  // cannot be listened on; otherwise the disk's errors.
  static absl::StatusOr<std::unique_ptr<PeerModels>> Start(Spec spec, Env* env,
                                                           const Clock* clock);
  // Fetches that are under way end with CANCELLED.
  ~PeerModels() override;

  std::optional<v1::Contact> contact() const override;
  void OnWelcome(const v1::Welcome& welcome) override;
  absl::StatusOr<Fetched> Fetch(
      const v1::OfferTask& offer,
      const std::function<bool()>& cancelled) override;
  v1::SwarmTraffic traffic() const override;

  dht::Peer* peer() { return peer_.get(); }

 private:
  PeerModels(Spec spec, Env* env, const Clock* clock)
      : spec_(std::move(spec)), env_(env), clock_(clock) {}
  absl::Status Open();
  absl::Status Listen();
  // Whose signature counts in the session that is, or was last, open.
  // FAILED_PRECONDITION in plaintext, if the coordinator has said no key.
  absl::StatusOr<dht::RecordTrust> SessionTrust() const;
  absl::StatusOr<v1::VersionManifest> OpenManifest(
      const v1::OfferTask& offer) const;

  const Spec spec_;
  Env* const env_;
  const Clock* const clock_;

  // Constant after Open, or synchronising themselves.
  bool has_node_ = true;
  std::unique_ptr<FederationTrust> authority_;
  std::unique_ptr<dht::Peer> peer_;
  std::unique_ptr<RpcServer> server_;  // null: serves nobody
  std::unique_ptr<dht::VersionCache> cache_;

  mutable Mutex mutex_;
  std::optional<PublicKey> signing_key_ ABSL_GUARDED_BY(mutex_);
  dht::Contact origin_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_MODELS_PEER_MODELS_H_
