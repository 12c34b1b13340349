#ifndef KOINON_BASE_UTF8_H_
#define KOINON_BASE_UTF8_H_

#include <cstddef>
#include <optional>

#include "absl/strings/string_view.h"

namespace koinon {

// One code point and the bytes that encode it.
struct Utf8Char {
  char32_t code_point = 0;
  size_t size_bytes = 0;
};

// The first code point of `text`; none if `text` is empty or does not start
// with well-formed UTF-8 (overlong forms, surrogates and anything over
// U+10FFFF are not).
std::optional<Utf8Char> FirstUtf8Char(absl::string_view text);

bool IsValidUtf8(absl::string_view text);

// C0 and C1 controls, DEL, and the line and paragraph separators: what moves a
// terminal's cursor or ends a line for somebody.
bool IsControl(char32_t code_point);

}  // namespace koinon

#endif  // KOINON_BASE_UTF8_H_
