#ifndef KOINON_BASE_TRUST_H_
#define KOINON_BASE_TRUST_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/peer_identity.h"

namespace koinon {

// The federation's authority, as a judge of certificates that come inside
// messages rather than in a TLS handshake: of those who signed a record.
// Thread-safe.
class FederationTrust {
 public:
  // INVALID_ARGUMENT unless `ca_pem` holds certificates.
  static absl::StatusOr<std::unique_ptr<FederationTrust>> Create(
      std::string federation, absl::string_view ca_pem);
  ~FederationTrust();

  // Who the certificate is of. UNAUTHENTICATED, saying why, if it is no
  // certificate, does not stand under the authority at `now`, or is of another
  // federation.
  absl::StatusOr<PeerIdentity> Verify(absl::string_view certificate_der,
                                      absl::Time now) const;
  const std::string& federation() const { return federation_; }

 private:
  struct Store;
  FederationTrust(std::string federation, std::unique_ptr<Store> store);
  const std::string federation_;
  const std::unique_ptr<Store> store_;
};

}  // namespace koinon

#endif  // KOINON_BASE_TRUST_H_
