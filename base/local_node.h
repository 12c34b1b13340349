#ifndef KOINON_BASE_LOCAL_NODE_H_
#define KOINON_BASE_LOCAL_NODE_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/digest.h"
#include "base/env.h"
#include "base/node_identity.h"
#include "base/signing.h"
#include "base/tls.h"

namespace koinon {

// Who this process is to other nodes, and what it signs with. Movable.
struct LocalNode {
  SigningKey key;
  NodeIdentity identity;
  Digest id;  // NodeIdOf
  std::string federation;
  std::string owner;            // OwnerOf its certificate
  std::string certificate_der;  // empty without TLS
};

// From the own TLS certificate, which carries the identity, and the key file,
// whose second private key is the identity's (koinon certs writes both).
// FAILED_PRECONDITION, naming the file and `koinon certs`, if the certificate
// carries none (NotForNodes tells that case), or if the key is not the
// certificate's; otherwise as CheckTlsFiles.
absl::StatusOr<LocalNode> LoadLocalNode(Env* env, const TlsFiles& files,
                                        absl::Time now);
// Whether LoadLocalNode failed because the certificate was made without a
// node's identity, as other authorities' are.
bool NotForNodes(const absl::Status& status);

// Without TLS: from the key in `key_path`, which is made (private, durable,
// with its folder) if it is not there. DATA_LOSS if the file holds none,
// FAILED_PRECONDITION if others may read it, INVALID_ARGUMENT for a bad site.
absl::StatusOr<LocalNode> LoadOrMakeLocalNode(Env* env,
                                              const std::string& key_path,
                                              const std::string& federation,
                                              const std::string& owner,
                                              const std::string& site);

}  // namespace koinon

#endif  // KOINON_BASE_LOCAL_NODE_H_
