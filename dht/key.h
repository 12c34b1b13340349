#ifndef KOINON_DHT_KEY_H_
#define KOINON_DHT_KEY_H_

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/digest.h"
#include "proto/dht.pb.h"

namespace koinon::dht {

// Nodes and records have their places in one space of 256 bits, and their
// distance is the XOR of two places (Maymounkov and Mazieres 2002,
// section 2.1).
using Key = Digest;

// a XOR b, as a number whose first byte is the largest.
Key Distance(const Key& a, const Key& b);
// Whether `a` is nearer to `target` than `b`. A total order for any target.
bool Closer(const Key& target, const Key& a, const Key& b);
// Leading bits that a and b share: 0 to 256.
size_t CommonPrefixBits(const Key& a, const Key& b);
// `key` with its first `bits` bits, the next one flipped, and the rest drawn
// from `random_bits` (32 bytes): a place in the bucket that shares `bits`.
Key KeyInBucket(const Key& key, size_t bits, const Key& random_bits);

// A node, and where to reach it. A value.
struct Contact {
  Key id;
  std::string address;  // "host:port"; empty: cannot be reached (a client)
  std::string site;     // of its certificate; may be empty

  friend bool operator==(const Contact&, const Contact&) = default;
};

inline constexpr size_t kMaxAddressBytes = 256;

// INVALID_ARGUMENT for what no node can be called by: not HOST:PORT with a
// name, an IPv4 address, or an IPv6 address in brackets, and a port from 1, or
// over the bound.
absl::Status ValidateAddress(absl::string_view address);
// The same for one that a node tells others of itself: moreover, not an address
// that stands for every one of a machine (0.0.0.0, [::]), by which each of the
// others would call itself.
absl::Status ValidateAdvertised(absl::string_view address);
// Whether a listener at this host, brackets or not, takes every address of its
// machine, so that others must be told another.
bool IsWildcardHost(absl::string_view host);

// INVALID_ARGUMENT for an id that is not 32 bytes long, or an address or site
// that is too long or no address or id.
absl::StatusOr<Contact> ContactFromProto(const v1::Contact& proto);
v1::Contact ContactToProto(const Contact& contact);

}  // namespace koinon::dht

#endif  // KOINON_DHT_KEY_H_
