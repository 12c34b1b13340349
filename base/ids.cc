#include "base/ids.h"

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace koinon {
namespace {

constexpr size_t kMaxIdLength = 63;

bool IsLowerOrDigit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

absl::Status InvalidId(absl::string_view kind, absl::string_view id,
                       absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat(kind, " '", absl::CHexEscape(id.substr(0, kMaxIdLength + 1)),
                   "' ", what));
}

}  // namespace

absl::Status ValidateId(absl::string_view kind, absl::string_view id) {
  if (id.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(kind, " is empty"));
  }
  if (id.size() > kMaxIdLength) {
    return InvalidId(kind, id,
                     absl::StrCat("has ", id.size(), " characters, at most ",
                                  kMaxIdLength, " are allowed"));
  }
  if (!IsLowerOrDigit(id.front())) {
    return InvalidId(kind, id, "must start with one of a-z, 0-9");
  }
  const bool allowed = std::all_of(id.begin(), id.end(), [](char c) {
    return IsLowerOrDigit(c) || c == '.' || c == '_' || c == '-';
  });
  if (!allowed) {
    return InvalidId(kind, id, "may hold only a-z, 0-9, '.', '_' and '-'");
  }
  return absl::OkStatus();
}

std::string TaskId::ToString() const {
  return absl::StrCat(job, "/r", round, "/",
                      kind == Kind::kTrain ? "train" : "evaluate");
}

}  // namespace koinon
