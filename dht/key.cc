#include "dht/key.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/ids.h"
#include "base/status_macros.h"

namespace koinon::dht {
namespace {

constexpr size_t kBits = 8 * Key::kSizeBytes;
using Bytes = std::array<uint8_t, Key::kSizeBytes>;

Key FromArray(const Bytes& bytes) {
  return *Key::FromBytes(absl::string_view(
      reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

// Eight bytes as a number, the first one the largest.
uint64_t WordAt(const Key& key, size_t at) {
  uint64_t word = 0;
  for (size_t i = 0; i < sizeof(word); ++i) {
    word = word << 8 | key.bytes()[at + i];
  }
  return word;
}

// The part before the port: a name or an IPv4 address, or an IPv6 address in
// brackets. What gRPC would read as a scheme ("unix:", "dns:///") is none.
bool IsHost(absl::string_view host) {
  if (!host.empty() && host.front() == '[') {
    return host.size() > 2 && host.back() == ']' &&
           std::all_of(host.begin() + 1, host.end() - 1, [](char c) {
             return absl::ascii_isxdigit(c) || c == ':' || c == '.';
           });
  }
  return !host.empty() && std::all_of(host.begin(), host.end(), [](char c) {
    return absl::ascii_isalnum(c) || c == '-' || c == '.' || c == '_';
  });
}

bool IsPort(absl::string_view port) {
  uint32_t number = 0;
  return !port.empty() && port.size() <= 5 &&
         std::all_of(port.begin(), port.end(), absl::ascii_isdigit) &&
         absl::SimpleAtoi(port, &number) && number >= 1 && number <= 65535;
}

}  // namespace

Key Distance(const Key& a, const Key& b) {
  Bytes distance;
  for (size_t i = 0; i < distance.size(); ++i) {
    distance[i] = a.bytes()[i] ^ b.bytes()[i];
  }
  return FromArray(distance);
}

bool Closer(const Key& target, const Key& a, const Key& b) {
  // The first bit in which a and b differ says it.
  const size_t bit = CommonPrefixBits(a, b);
  if (bit == kBits) return false;
  const uint8_t mask = static_cast<uint8_t>(0x80u >> (bit % 8));
  return ((target.bytes()[bit / 8] ^ a.bytes()[bit / 8]) & mask) == 0;
}

size_t CommonPrefixBits(const Key& a, const Key& b) {
  for (size_t i = 0; i < Key::kSizeBytes; i += sizeof(uint64_t)) {
    const uint64_t differing = WordAt(a, i) ^ WordAt(b, i);
    if (differing != 0) {
      return 8 * i + static_cast<size_t>(std::countl_zero(differing));
    }
  }
  return kBits;
}

Key KeyInBucket(const Key& key, size_t bits, const Key& random_bits) {
  Bytes place = random_bits.bytes();
  const size_t kept = std::min(bits, kBits);
  for (size_t i = 0; i <= kept && i < kBits; ++i) {
    const uint8_t mask = static_cast<uint8_t>(0x80u >> (i % 8));
    const uint8_t bit = key.bytes()[i / 8] & mask;
    const uint8_t wanted = i < kept ? bit : static_cast<uint8_t>(bit ^ mask);
    place[i / 8] = static_cast<uint8_t>((place[i / 8] & ~mask) | wanted);
  }
  return FromArray(place);
}

absl::Status ValidateAddress(absl::string_view address) {
  if (address.size() > kMaxAddressBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("an address has at most ", kMaxAddressBytes,
                     " bytes, found ", address.size(), " bytes"));
  }
  const size_t colon = address.rfind(':');
  if (colon != absl::string_view::npos && IsHost(address.substr(0, colon)) &&
      IsPort(address.substr(colon + 1))) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("expected an address HOST:PORT, found '",
                   absl::CHexEscape(address), "'"));
}

absl::Status ValidateAdvertised(absl::string_view address) {
  ABSL_RETURN_IF_ERROR(ValidateAddress(address));
  if (!IsWildcardHost(address.substr(0, address.rfind(':')))) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("expected an address that others can call, found '", address,
                   "', which stands for every address of a machine"));
}

bool IsWildcardHost(absl::string_view host) {
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  const std::string text(host);
  in_addr v4 = {};
  // As a resolver reads it: "0" and "0.0" are 0.0.0.0 too.
  if (inet_aton(text.c_str(), &v4) != 0) return v4.s_addr == INADDR_ANY;
  in6_addr v6 = {};
  if (inet_pton(AF_INET6, text.c_str(), &v6) != 1) {
    return text.empty() || text == "*";
  }
  constexpr std::array<uint8_t, 4> kAnyV4 = {};
  return IN6_IS_ADDR_UNSPECIFIED(&v6) ||
         (IN6_IS_ADDR_V4MAPPED(&v6) &&
          std::equal(kAnyV4.begin(), kAnyV4.end(), v6.s6_addr + 12));
}

absl::StatusOr<Contact> ContactFromProto(const v1::Contact& proto) {
  Contact contact;
  absl::StatusOr<Key> id = Key::FromBytes(proto.node_id());
  if (!id.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a node's id has 32 bytes, found ", proto.node_id().size()));
  }
  if (!proto.address().empty()) {
    ABSL_RETURN_IF_ERROR(ValidateAddress(proto.address()));
  }
  if (!proto.site().empty()) {
    ABSL_RETURN_IF_ERROR(ValidateId("site", proto.site()));
  }
  contact.id = *id;
  contact.address = proto.address();
  contact.site = proto.site();
  return contact;
}

v1::Contact ContactToProto(const Contact& contact) {
  v1::Contact proto;
  const Bytes& id = contact.id.bytes();
  proto.set_node_id(id.data(), id.size());
  // Thousands of these are made each second, and most have no site.
  if (!contact.address.empty()) proto.set_address(contact.address);
  if (!contact.site.empty()) proto.set_site(contact.site);
  return proto;
}

}  // namespace koinon::dht
