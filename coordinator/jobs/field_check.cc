#include "coordinator/jobs/field_check.h"

#include <cmath>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace koinon::coordinator {
namespace {

// How much of a string a message quotes.
constexpr size_t kQuotedBytes = 64;

std::string Number(double value) { return absl::StrFormat("%.15g", value); }

}  // namespace

absl::Status CheckNumber(absl::string_view field, double value, Range range) {
  const bool high_enough =
      range.low_open ? value > range.low : value >= range.low;
  const bool low_enough =
      range.high_open ? value < range.high : value <= range.high;
  if (high_enough && low_enough && std::isfinite(value)) {
    return absl::OkStatus();
  }
  return FieldError(
      field, Number(value),
      absl::StrCat(range.low_open ? "more than " : "", Number(range.low),
                   range.high_open ? " to less than " : " to ",
                   Number(range.high)));
}

absl::Status CheckInteger(absl::string_view field, int64_t value, int64_t low,
                          int64_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return FieldError(field, absl::StrCat(value),
                    absl::StrCat(low, " to ", high));
}

absl::Status FieldError(absl::string_view field, absl::string_view value,
                        absl::string_view expected) {
  return absl::InvalidArgumentError(
      absl::StrCat(field, " is ", value, ", expected ", expected));
}

absl::Status FieldConflict(absl::string_view field, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": ", why));
}

absl::Status InField(absl::string_view field, const absl::Status& status) {
  if (status.ok()) return status;
  if (absl::StartsWith(status.message(), field)) {
    return absl::InvalidArgumentError(status.message());
  }
  return FieldConflict(field, status.message());
}

std::string Quoted(absl::string_view text) {
  const bool cut = text.size() > kQuotedBytes;
  return absl::StrCat("\"", absl::CHexEscape(text.substr(0, kQuotedBytes)),
                      cut ? "...\"" : "\"");
}

}  // namespace koinon::coordinator
