#ifndef KOINON_DHT_PEER_POLICY_H_
#define KOINON_DHT_PEER_POLICY_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/tls.h"
#include "dht/key.h"
#include "proto/dht.pb.h"

namespace koinon::dht {

// Who may ask this node what, and whom it asks: decided from what certificates
// say. In plaintext (an anonymous identity) everybody is who they claim to be,
// and may do everything: that is what --insecure means. Pure; a value.
//
// All refusals are PERMISSION_DENIED, saying which right is missing, but for
// UNAUTHENTICATED: no certificate where one is required, or not the node that
// was meant.
class PeerPolicy {
 public:
  struct Options {
    std::string federation;
    bool require_tls = true;
    std::string site;  // of this node
    // See Peer::Options.
    bool cross_site = false;
    bool is_origin = false;
    bool leech_only = false;
    std::string coordinator;
  };
  explicit PeerPolicy(Options options) : options_(std::move(options)) {}

  // Any member of the federation: for status.
  absl::Status CheckMember(const PeerIdentity& who) const;

  // The node that the certificate is of, without an address. In plaintext:
  // `claimed`. Refuses members that are no nodes; INVALID_ARGUMENT for a
  // malformed claim.
  absl::StatusOr<Contact> NodeOf(const PeerIdentity& who,
                                 const v1::Contact& claimed) const;

  // Who asks: the node that the certificate is of, at the address that it
  // claims. What else it claims must be what its certificate says.
  absl::StatusOr<Contact> CheckAsker(const PeerIdentity& who,
                                     const v1::Contact& claimed) const;

  // Whether model bytes may go there. The federation's servers and clients may
  // have them; workers and nodes of another site only if cross_site is set, or
  // from the origin.
  absl::Status CheckFetcher(const PeerIdentity& who) const;
  // Whether model bytes may come from there; the same.
  absl::Status MayFetchFrom(const Contact& contact) const;

  // Whether it is the contact that answers. The coordinator, at its own
  // address, need not be a node; anybody at all is meant by a zero id.
  absl::Status CheckIs(const Contact& contact, const PeerIdentity& who) const;
  // As CheckIs, and whether model bytes may come from who answers: what others
  // said of its site need not be so.
  absl::Status CheckSource(const Contact& contact,
                           const PeerIdentity& who) const;

 private:
  const Options options_;
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_PEER_POLICY_H_
