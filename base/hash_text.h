#ifndef KOINON_BASE_HASH_TEXT_H_
#define KOINON_BASE_HASH_TEXT_H_

#include <cstdint>

#include "absl/strings/string_view.h"
#include "base/digest.h"

// How several values go into one hash, so that no two lists of them give the
// same bytes.

namespace koinon {

// 8 little-endian bytes.
inline void HashInteger(uint64_t value, Sha256* sha) {
  uint8_t bytes[8];
  for (int i = 0; i < 8; ++i) bytes[i] = (value >> (8 * i)) & 0xff;
  sha->Update(bytes, sizeof(bytes));
}

// The length of `text` as an integer, and then `text`.
inline void HashText(absl::string_view text, Sha256* sha) {
  HashInteger(text.size(), sha);
  sha->Update(text);
}

}  // namespace koinon

#endif  // KOINON_BASE_HASH_TEXT_H_
