#include "base/utf8.h"

#include <cstdint>

namespace koinon {
namespace {

// The number of bytes that a lead byte announces; 0 if it is none.
size_t SequenceLength(uint8_t lead) {
  if (lead < 0x80) return 1;
  if (lead >= 0xc2 && lead <= 0xdf) return 2;
  if (lead >= 0xe0 && lead <= 0xef) return 3;
  if (lead >= 0xf0 && lead <= 0xf4) return 4;
  return 0;
}

bool IsWellFormed(char32_t c, size_t length) {
  if (length == 3) return c >= 0x800 && (c < 0xd800 || c > 0xdfff);
  if (length == 4) return c >= 0x10000 && c <= 0x10ffff;
  return true;
}

}  // namespace

std::optional<Utf8Char> FirstUtf8Char(absl::string_view text) {
  if (text.empty()) return std::nullopt;
  const auto lead = static_cast<uint8_t>(text[0]);
  const size_t length = SequenceLength(lead);
  if (length == 0 || text.size() < length) return std::nullopt;
  if (length == 1) return Utf8Char{lead, 1};
  char32_t c = lead & (0x7f >> length);
  for (size_t i = 1; i < length; ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    if ((byte & 0xc0) != 0x80) return std::nullopt;
    c = (c << 6) | (byte & 0x3f);
  }
  if (!IsWellFormed(c, length)) return std::nullopt;
  return Utf8Char{c, length};
}

bool IsValidUtf8(absl::string_view text) {
  while (!text.empty()) {
    const std::optional<Utf8Char> c = FirstUtf8Char(text);
    if (!c.has_value()) return false;
    text.remove_prefix(c->size_bytes);
  }
  return true;
}

bool IsControl(char32_t c) {
  return c < 0x20 || (c >= 0x7f && c <= 0x9f) || c == 0x2028 || c == 0x2029;
}

}  // namespace koinon
