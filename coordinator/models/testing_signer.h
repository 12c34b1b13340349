#ifndef KOINON_COORDINATOR_MODELS_TESTING_SIGNER_H_
#define KOINON_COORDINATOR_MODELS_TESTING_SIGNER_H_

#include <string>
#include <utility>

#include "absl/time/time.h"
#include "base/clock.h"
#include "base/local_node.h"
#include "base/node_identity.h"
#include "base/signing.h"
#include "coordinator/models/manifest_signer.h"

namespace koinon::coordinator {

// A coordinator's node without TLS, with a new key.
inline LocalNode MakeTestNode(const std::string& federation = "test") {
  SigningKey key = SigningKey::Generate();
  const NodeIdentity identity = SelfMadeIdentity(key.public_key(), "");
  const Digest id = NodeIdOf(federation, identity);
  return LocalNode{.key = std::move(key),
                   .identity = identity,
                   .id = id,
                   .federation = federation,
                   .owner = "server",
                   .certificate_der = ""};
}

// Signs for a month, by the real clock.
class TestSigner {
 public:
  const ManifestSigner* get() const { return &signer_; }
  const LocalNode& node() const { return node_; }

 private:
  const LocalNode node_ = MakeTestNode();
  const RealClock clock_;
  const ManifestSigner signer_{&node_, &clock_, absl::Hours(24 * 30)};
};

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_MODELS_TESTING_SIGNER_H_
