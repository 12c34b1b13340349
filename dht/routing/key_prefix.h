#ifndef KOINON_DHT_ROUTING_KEY_PREFIX_H_
#define KOINON_DHT_ROUTING_KEY_PREFIX_H_

#include <cstddef>
#include <cstdint>

#include "dht/key.h"

namespace koinon::dht {

// A key's first 64 bits, as a number: the order of prefixes is that of their
// keys, and the XOR of two is the prefix of their distance. Where many keys are
// compared it says nearly always which is which, without a look at the rest.
inline uint64_t PrefixOf(const Key& key) {
  uint64_t prefix = 0;
  for (size_t i = 0; i < sizeof(prefix); ++i) {
    prefix = prefix << 8 | key.bytes()[i];
  }
  return prefix;
}

// Bit `bit` of the key, counted from its first.
inline bool BitAt(const Key& key, size_t bit) {
  return (key.bytes()[bit / 8] >> (7 - bit % 8) & 1) != 0;
}

}  // namespace koinon::dht

#endif  // KOINON_DHT_ROUTING_KEY_PREFIX_H_
