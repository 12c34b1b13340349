#ifndef KOINON_DHT_RECORDS_TESTING_SIGNERS_H_
#define KOINON_DHT_RECORDS_TESTING_SIGNERS_H_

#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/certs.h"
#include "base/local_node.h"
#include "base/peer_identity.h"
#include "base/trust.h"
#include "dht/records/signed.h"
#include "proto/dht.pb.h"
#include "proto/model.pb.h"

// Who signs in tests, and what.

namespace koinon::dht {

// A federation with an authority of its own, whose certificates are good for 30
// days from `now`.
class TestFederation {
 public:
  TestFederation(const std::string& name, absl::Time now);

  // A node with a certificate.
  LocalNode Node(PeerIdentity::Role role, const std::string& name) const;
  LocalNode Server() const {
    return Node(PeerIdentity::Role::kServer, "coordinator");
  }
  // Borrows this object's authority.
  RecordTrust trust() const;

 private:
  const std::string name_;
  const absl::Time now_;
  const CertificateAndKey ca_;
  const std::unique_ptr<FederationTrust> authority_;
};

// A node without a certificate. The key's seed is 32 times `seed`.
LocalNode PlainNode(char seed, const std::string& federation,
                    const std::string& owner);

// A Signed of `body` as whoever holds the key can make one, right or not.
v1::Signed SignBody(absl::string_view context, const std::string& body,
                    const LocalNode& signer);
// The signature of `envelope` as it is now, by the signer's key.
void SignAgain(absl::string_view context, const LocalNode& signer,
               v1::Signed* envelope);

// Version 3 of the job "digits" of federation "north": the vector of
// docs/formats/manifest.md.
v1::VersionManifest VectorManifest();
// The record of its head: the vector of docs/formats/record.md.
v1::MutableRecord VectorRecord();
// When both of them stand.
absl::Time VectorTime();

}  // namespace koinon::dht

#endif  // KOINON_DHT_RECORDS_TESTING_SIGNERS_H_
