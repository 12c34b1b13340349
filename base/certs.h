#ifndef KOINON_BASE_CERTS_H_
#define KOINON_BASE_CERTS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/tls.h"

namespace koinon {

// Makes a federation's certificates: an authority of its own, and under it one
// certificate per server, worker, client and node, as base/tls.h wants to see
// them.
//
//   auto ca = MakeCertificateAuthority("north", 3650, now);
//   auto worker = IssueCertificate(*ca, {.role = Role::kWorker, .name = "w1"},
//                                  365, now);
//
// EC P-256 keys, SHA-256 signatures, random serial numbers of 128 bits. Valid
// from five minutes before `now`, because clocks differ. Thread-safe. Stores
// nothing: WritePrivateFileAtomically is for the keys.

// In PEM. Of all but authorities, `key_pem` holds two private keys: first the
// certificate's, which TLS takes, and then the Ed25519 key of the node's
// identity (base/local_node.h). BoringSSL, which other gRPC programs are built
// with, offers no Ed25519 to its peers: hence two.
struct CertificateAndKey {
  std::string certificate_pem;
  std::string key_pem;
};

struct CertificateSubject {
  PeerIdentity::Role role = PeerIdentity::Role::kWorker;
  std::string name = {};
  // What clients may call a server by; for servers only, where one is needed.
  std::vector<std::string> dns_names = {};
  std::vector<std::string> ip_addresses = {};
  // Where it stands, for what must not leave a site. May be empty.
  std::string site = {};
};

inline constexpr int kMaxCertificateDays = 36'500;

// INVALID_ARGUMENT unless `federation` is an id and `days` is in
// [1, kMaxCertificateDays].
absl::StatusOr<CertificateAndKey> MakeCertificateAuthority(
    absl::string_view federation, int days, absl::Time now);

// A certificate with the URI koinon://FEDERATION/ROLE/NAME, the URI of a node's
// identity, for which a key and a nonce are drawn, and the DNS name
// kNodeDnsName. Clients' are good for the client end of a connection only, the
// others' for both. INVALID_ARGUMENT, saying which, for a name, site, address
// or number of days that is none, a server without a name to call it by or with
// kNodeDnsName for one, an authority that is none of
// MakeCertificateAuthority's, or one that ends before the certificate.
absl::StatusOr<CertificateAndKey> IssueCertificate(
    const CertificateAndKey& authority, const CertificateSubject& subject,
    int days, absl::Time now);

}  // namespace koinon

#endif  // KOINON_BASE_CERTS_H_
