#ifndef KOINON_BASE_TLS_H_
#define KOINON_BASE_TLS_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/env.h"
#include "base/peer_identity.h"

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

// What the certificate of each node of the DHT carries as a DNS name instead of
// where the node happens to be reached: whoever calls a node overrides the name
// that TLS looks for with it. Who answered is in the call's AuthContext
// (PeerIdentityOf), and the caller checks it. No server is ever called so.
inline constexpr char kNodeDnsName[] = "node.koinon.internal";

// Who is at the other end of a call. UNAUTHENTICATED if the peer used TLS but
// its certificate carries no koinon:// URI, or a malformed one of ours.
absl::StatusOr<PeerIdentity> PeerIdentityOf(const grpc::AuthContext& context);
// Of the certificate in a PEM file (the first, of a chain). NOT_FOUND if it
// carries no koinon:// URI; otherwise as CheckTlsFiles and IdentityFromUris.
absl::StatusOr<PeerIdentity> IdentityOfCertificate(Env* env,
                                                   const std::string& path);

}  // namespace koinon

#endif  // KOINON_BASE_TLS_H_
