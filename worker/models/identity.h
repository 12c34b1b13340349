#ifndef KOINON_WORKER_MODELS_IDENTITY_H_
#define KOINON_WORKER_MODELS_IDENTITY_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/env.h"
#include "base/local_node.h"
#include "base/tls.h"
#include "base/trust.h"
#include "worker/models/peering_spec.h"

namespace koinon::worker {

// Who this worker is to other nodes, and by whose word it knows them.
struct WorkerIdentity {
  LocalNode local;
  // False: its certificate is of an authority that knows no nodes, and it can
  // fetch from the coordinator only.
  bool has_node = true;
  std::unique_ptr<FederationTrust> authority;  // null in plaintext
};

// Over TLS: what the certificate says. In plaintext (`tls` is empty): the key
// in STATE_DIR/node.key, made if it is not there, and what the spec says.
//
// INVALID_ARGUMENT, naming the flag, if spec.site or spec.federation say
// something else than the certificate, or if the worker is to serve others but
// its certificate is none for nodes; otherwise as LoadLocalNode and
// LoadOrMakeLocalNode.
absl::StatusOr<WorkerIdentity> LoadWorkerIdentity(
    Env* env, const std::string& worker, const std::string& state_dir,
    const TlsFiles& tls, const PeeringSpec& spec, absl::Time now);

}  // namespace koinon::worker

#endif  // KOINON_WORKER_MODELS_IDENTITY_H_
