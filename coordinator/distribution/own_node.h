#ifndef KOINON_COORDINATOR_DISTRIBUTION_OWN_NODE_H_
#define KOINON_COORDINATOR_DISTRIBUTION_OWN_NODE_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/env.h"
#include "base/tls.h"
#include "base/trust.h"
#include "dht/peer.h"

namespace koinon::coordinator {

// Who the coordinator is in the DHT, from what its operator configured.
struct OwnNodeSpec {
  std::string federation;
  TlsFiles tls;  // empty: plaintext
  std::string state_dir;
};

// The authority that records and manifests are judged by; null in plaintext.
// Errors as FederationTrust::Create, naming the file.
absl::StatusOr<std::unique_ptr<FederationTrust>> LoadAuthority(
    Env* env, const OwnNodeSpec& spec);

// Options for its peer: the identity in its certificate and the key beside it.
// In plaintext, and with a certificate that carries no identity, a key in
// STATE/node.key, which is made if it is not there; in the latter case there is
// no DHT (`has_node`), and manifests are vouched for by the connection alone:
// one warning says so. `authority` is borrowed. Errors as LoadLocalNode,
// LoadOrMakeLocalNode and MakeChannelCredentials.
absl::StatusOr<dht::Peer::Options> MakePeerOptions(
    Env* env, const OwnNodeSpec& spec, const FederationTrust* authority,
    absl::Time now);

// What others are told to reach this coordinator by: `configured` if it is not
// empty, else the address that it listens on. Empty for one that others do
// not take (dht::ValidateAdvertised), as where it stands for all addresses of
// the machine: said in a warning.
std::string OwnAddress(const std::string& configured,
                       const std::string& listen_host, int port);

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_DISTRIBUTION_OWN_NODE_H_
