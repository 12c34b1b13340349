#ifndef KOINON_WORKER_DATA_TEXT_H_
#define KOINON_WORKER_DATA_TEXT_H_

#include <array>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/data/dataset.pb.h"
#include "worker/data/numeric_array.h"

namespace koinon::worker {

// Examples of next-character prediction.
struct TextExamples {
  // [n, context], each byte's class as a number; or one-hot,
  // [n, context, alphabet].
  NumericArray features;
  std::vector<int32_t> labels;  // [n], the class of the byte that follows
};

// The class of each byte: its place in `alphabet`, kNoClass outside it; for an
// empty alphabet the byte itself. INVALID_ARGUMENT for an alphabet with a byte
// twice.
using ByteClasses = std::array<int16_t, 256>;
inline constexpr int16_t kNoClass = -1;
absl::StatusOr<ByteClasses> ClassesOfBytes(absl::string_view alphabet);

// `value`, or `otherwise` for 0. INVALID_ARGUMENT, naming the field, outside
// [1, kMaxContext].
inline constexpr int64_t kMaxContext = 1 << 20;
absl::StatusOr<int64_t> ContextOr(absl::string_view field, int64_t value,
                                  int64_t otherwise);

// Slides a window over `bytes` as `source` says. INVALID_ARGUMENT for a context
// or stride out of range, an alphabet with a byte twice, a byte outside it
// (says at which offset), or a text too short for one example;
// RESOURCE_EXHAUSTED if the features take more than `max_bytes`.
absl::StatusOr<TextExamples> DecodeText(absl::string_view what,
                                        absl::string_view bytes,
                                        const TextSource& source,
                                        uint64_t max_bytes);

}  // namespace koinon::worker

#endif  // KOINON_WORKER_DATA_TEXT_H_
