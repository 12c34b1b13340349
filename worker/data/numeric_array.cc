#include "worker/data/numeric_array.h"

#include <cmath>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace koinon::worker {

absl::StatusOr<size_t> CheckedElementCount(absl::string_view what,
                                           absl::Span<const int64_t> shape,
                                           uint64_t max_bytes) {
  const uint64_t max_elements = max_bytes / sizeof(float);
  uint64_t count = 1;
  bool too_large = false;
  for (int64_t extent : shape) {
    if (extent < 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          what, ": shape ", FormatShape(shape), " has a negative extent"));
    }
    if (extent != 0 && count > max_elements / extent) too_large = true;
    count = too_large && extent != 0 ? count : count * extent;
  }
  if (count == 0) return size_t{0};
  if (too_large) {
    return absl::ResourceExhaustedError(absl::StrCat(
        what, ": shape ", FormatShape(shape), " takes more than max_bytes (",
        max_bytes, ") as 32-bit floats"));
  }
  return static_cast<size_t>(count);
}

std::string FormatShape(absl::Span<const int64_t> shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

absl::StatusOr<std::vector<int32_t>> ToLabels(absl::string_view what,
                                              absl::Span<const float> values) {
  std::vector<int32_t> labels(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    const float value = values[i];
    // The negated form also catches NaN.
    if (!(value >= 0 && value < kMaxClasses) || value != std::floor(value)) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s: label of example %d: expected a whole number in [0, %d), found "
          "%g",
          what, i, kMaxClasses, value));
    }
    labels[i] = static_cast<int32_t>(value);
  }
  return labels;
}

absl::Status CheckFinite(absl::string_view what,
                         absl::Span<const float> values) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s: element %d: expected a number that a 32-bit float holds, found "
          "%g",
          what, i, values[i]));
    }
  }
  return absl::OkStatus();
}

}  // namespace koinon::worker
