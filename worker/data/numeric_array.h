#ifndef KOINON_WORKER_DATA_NUMERIC_ARRAY_H_
#define KOINON_WORKER_DATA_NUMERIC_ARRAY_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace koinon::worker {

// An array as a file holds it, whatever its type was there. A value.
struct NumericArray {
  std::vector<int64_t> shape;  // row-major
  std::vector<float> values;   // [product of shape], finite
};

// Classes are kept as floats on the way, which hold whole numbers exactly up to
// here.
inline constexpr int32_t kMaxClasses = 1 << 24;

// The product of `shape`. INVALID_ARGUMENT, with `what` ("images.idx") in
// front, for a negative extent; RESOURCE_EXHAUSTED if as many floats take more
// than `max_bytes`.
absl::StatusOr<size_t> CheckedElementCount(absl::string_view what,
                                           absl::Span<const int64_t> shape,
                                           uint64_t max_bytes);

// "[3, 28, 28]"
std::string FormatShape(absl::Span<const int64_t> shape);

// Class indices from numbers. INVALID_ARGUMENT that says which example is not a
// whole number in [0, kMaxClasses).
absl::StatusOr<std::vector<int32_t>> ToLabels(absl::string_view what,
                                              absl::Span<const float> values);

// INVALID_ARGUMENT that says which element is not a finite float.
absl::Status CheckFinite(absl::string_view what,
                         absl::Span<const float> values);

}  // namespace koinon::worker

#endif  // KOINON_WORKER_DATA_NUMERIC_ARRAY_H_
