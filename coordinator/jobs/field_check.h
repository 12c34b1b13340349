#ifndef KOINON_COORDINATOR_JOBS_FIELD_CHECK_H_
#define KOINON_COORDINATOR_JOBS_FIELD_CHECK_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace koinon::coordinator {

// Bounds of one number, each with whether the bound itself is allowed.
struct Range {
  double low;
  double high;
  bool low_open = false;
  bool high_open = false;
};

// INVALID_ARGUMENT "training.batch_size is -4, expected 1 to 1048576" unless
// the value lies in the range. Neither NaN nor an infinity ever does.
absl::Status CheckNumber(absl::string_view field, double value, Range range);
// Integers are compared as such; the bounds are included.
absl::Status CheckInteger(absl::string_view field, int64_t value, int64_t low,
                          int64_t high);

// "FIELD is VALUE, expected EXPECTED".
absl::Status FieldError(absl::string_view field, absl::string_view value,
                        absl::string_view expected);
// "FIELD: WHY", for fields that contradict others.
absl::Status FieldConflict(absl::string_view field, absl::string_view why);
// The status with the field in front of its message, as INVALID_ARGUMENT; OK
// stays OK.
absl::Status InField(absl::string_view field, const absl::Status& status);

// A string for a message: quoted, cut, control characters escaped.
std::string Quoted(absl::string_view text);

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_JOBS_FIELD_CHECK_H_
