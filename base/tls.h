#ifndef KOINON_BASE_TLS_H_
#define KOINON_BASE_TLS_H_

#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/env.h"
#include "base/node_identity.h"

namespace grpc {
class AuthContext;
class ChannelCredentials;
class ServerCredentials;
}  // namespace grpc

namespace koinon {

// Paths of PEM files: the own certificate chain, its key, the federation's CA.
struct TlsFiles {
  std::string certificate;
  std::string key;
  std::string ca;
  bool empty() const {
    return certificate.empty() && key.empty() && ca.empty();
  }
};

// Reads and checks the three files. INVALID_ARGUMENT or FAILED_PRECONDITION
// that names the file: missing, not PEM, a key that is not the certificate's,
// a certificate that the CA did not sign, expired or not yet valid, or a key
// file that others than its owner can read.
absl::Status CheckTlsFiles(Env* env, const TlsFiles& files, absl::Time now);

// Mutual TLS: clients must show a certificate of the federation's CA.
absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeServerCredentials(
    Env* env, const TlsFiles& files, absl::Time now);
absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>>
MakeChannelCredentials(Env* env, const TlsFiles& files, absl::Time now);

// Plaintext, asked for by name. Callers log that they use it.
std::shared_ptr<grpc::ServerCredentials> MakeInsecureServerCredentials();
std::shared_ptr<grpc::ChannelCredentials> MakeInsecureChannelCredentials();

// Credentials for calls to nodes of the DHT. Their certificates carry the DNS
// name kNodeDnsName instead of where they happen to be reached; who answered is
// in the call's AuthContext (PeerIdentityOf), and the caller checks it.
inline constexpr char kNodeDnsName[] = "node.koinon.internal";

// Who a peer is, from the URIs in its verified certificate:
// "koinon://FEDERATION/ROLE/NAME", and the node's if it has one.
struct PeerIdentity {
  enum class Role {
    kAnonymous /* plaintext */,
    kWorker,
    kClient,
    kServer,
    kNode /* koinon-dht */
  };
  Role role = Role::kAnonymous;
  std::string federation;
  std::string name;
  std::optional<NodeIdentity> node;
};
// "server", "worker/NAME", "client/NAME", "node/NAME": who may write which
// records. Empty for anonymous peers.
std::string OwnerOf(const PeerIdentity& identity);
// UNAUTHENTICATED if the peer used TLS but its certificate carries no such URI.
absl::StatusOr<PeerIdentity> PeerIdentityOf(const grpc::AuthContext& context);
absl::StatusOr<PeerIdentity> ParseIdentityUri(absl::string_view uri);
// "worker", "client", "server"; "anonymous".
absl::string_view RoleName(PeerIdentity::Role role);
// Of the certificate in a PEM file (the first, of a chain). NOT_FOUND if it
// carries no koinon:// URI; otherwise as CheckTlsFiles and ParseIdentityUri.
absl::StatusOr<PeerIdentity> IdentityOfCertificate(Env* env,
                                                   const std::string& path);

}  // namespace koinon

#endif  // KOINON_BASE_TLS_H_
