#include "tools/bench/json_string.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace koinon::tools {

std::string JsonString(absl::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      absl::StrAppend(&escaped, "\\", std::string(1, c));
    } else if (static_cast<unsigned char>(c) < 0x20) {
      absl::StrAppendFormat(&escaped, "\\u%04x", c);
    } else {
      escaped.push_back(c);
    }
  }
  return absl::StrCat("\"", escaped, "\"");
}

}  // namespace koinon::tools
