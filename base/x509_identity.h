#ifndef KOINON_BASE_X509_IDENTITY_H_
#define KOINON_BASE_X509_IDENTITY_H_

#include "absl/status/statusor.h"
#include "base/openssl_ptr.h"
#include "base/peer_identity.h"

namespace koinon {

// Who a certificate is of, whoever signed it. As IdentityFromUris. An inner
// part of base/tls.h and base/trust.h.
absl::StatusOr<PeerIdentity> IdentityOfX509(X509* certificate);

}  // namespace koinon

#endif  // KOINON_BASE_X509_IDENTITY_H_
