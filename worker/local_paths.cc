#include "worker/local_paths.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace koinon::worker {
namespace {

constexpr char kHidden[] = "(local path)";

// What no path that nobody told us of goes on after.
constexpr absl::string_view kEnds = " \t\r\n\"'`<>()[]{},:;";

bool IsInName(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
         static_cast<unsigned char>(c) >= 0x80 ||
         absl::string_view("_-./~+%@").find(c) != absl::string_view::npos;
}

size_t RunLength(absl::string_view text) {
  return std::min(text.find_first_of(kEnds), text.size());
}

}  // namespace

LocalPaths::LocalPaths(std::vector<std::string> known)
    : known_(std::move(known)) {
  std::erase_if(known_, [](const std::string& path) { return path.empty(); });
  std::sort(known_.begin(), known_.end(),
            [](const std::string& a, const std::string& b) {
              return a.size() > b.size();
            });
}

std::string LocalPaths::Hide(absl::string_view text) const {
  std::string hidden;
  size_t at = 0;
  while (at < text.size()) {
    const size_t length = LengthAt(text, at);
    if (length > 0) {
      absl::StrAppend(&hidden, kHidden);
      at += length;
    } else {
      hidden.push_back(text[at++]);
    }
  }
  return hidden;
}

size_t LocalPaths::LengthAt(absl::string_view text, size_t at) const {
  if (at > 0 && IsInName(text[at - 1])) return 0;
  const absl::string_view rest = text.substr(at);
  for (const std::string& path : known_) {
    if (!absl::StartsWith(rest, path)) continue;
    const absl::string_view after = rest.substr(path.size());
    // Files under it, and those written beside it ("x.tmp").
    const bool goes_on =
        !after.empty() &&
        (after[0] == '/' || after[0] == '.' || path.back() == '/');
    if (goes_on) return path.size() + RunLength(after);
    if (after.empty() || !IsInName(after[0])) return path.size();
  }
  return rest[0] == '/' && RunLength(rest) > 1 ? RunLength(rest) : 0;
}

}  // namespace koinon::worker
