#ifndef KOINON_BASE_NODE_IDENTITY_H_
#define KOINON_BASE_NODE_IDENTITY_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/digest.h"
#include "base/signing.h"

namespace koinon {

// Who a node of the DHT is. The federation's authority draws the nonce and
// writes all of it into the node's certificate, so that nobody chooses where in
// the id space a node stands: whoever could, could surround any key.
struct NodeIdentity {
  static constexpr size_t kNonceBytes = 16;

  PublicKey key;
  std::string nonce;  // 16 bytes
  // Where the node is, for what must not leave a site. May be empty.
  std::string site;

  friend bool operator==(const NodeIdentity&, const NodeIdentity&) = default;
};

// SHA-256 over text("koinon-node"), text(federation), text(SPKI), text(nonce),
// where text(s) is the length of s in 8 little-endian bytes and then s.
Digest NodeIdOf(absl::string_view federation, const NodeIdentity& node);

// "koinon-node:1:KEY:NONCE:SITE", key and nonce in hex: how a certificate
// carries it, as a URI among the subject's alternative names.
std::string NodeIdentityUri(const NodeIdentity& node);
// INVALID_ARGUMENT says what is wrong.
absl::StatusOr<NodeIdentity> ParseNodeIdentityUri(absl::string_view uri);
inline constexpr char kNodeIdentityScheme[] = "koinon-node:";

// For a federation without TLS: the nonce follows from the key, so that the id
// stays as long as the key does. Nobody can check it.
NodeIdentity SelfMadeIdentity(const PublicKey& key, std::string site);

}  // namespace koinon

#endif  // KOINON_BASE_NODE_IDENTITY_H_
