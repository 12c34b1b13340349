#ifndef KOINON_BASE_PEER_IDENTITY_H_
#define KOINON_BASE_PEER_IDENTITY_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/node_identity.h"

namespace koinon {

// Who a peer is, from the URIs in its verified certificate:
// "koinon://FEDERATION/ROLE/NAME", and the node's if it has one. A value.
struct PeerIdentity {
  enum class Role {
    kAnonymous /* plaintext */,
    kWorker,
    kClient,
    kServer,
    kNode /* koinon-dht */
  };
  Role role = Role::kAnonymous;
  std::string federation = {};
  std::string name = {};
  std::optional<NodeIdentity> node = {};
};

// "server", "worker/NAME", "client/NAME", "node/NAME": who may write which
// records. Empty for anonymous peers. A federation's servers are one owner: the
// coordinator that takes another's place goes on with its records.
std::string OwnerOf(const PeerIdentity& identity);

// "worker", "client", "server", "node"; "anonymous".
absl::string_view RoleName(PeerIdentity::Role role);

// INVALID_ARGUMENT, showing it, for anything but koinon://FEDERATION/ROLE/NAME.
absl::StatusOr<PeerIdentity> ParseIdentityUri(absl::string_view uri);

// Of all the URIs in a certificate. NOT_FOUND if none starts with koinon://;
// INVALID_ARGUMENT if more than one does, for more than one koinon-node: URI,
// and for one of either that is malformed.
absl::StatusOr<PeerIdentity> IdentityFromUris(
    const std::vector<std::string>& uris);

}  // namespace koinon

#endif  // KOINON_BASE_PEER_IDENTITY_H_
