#ifndef KOINON_AGGREGATION_CORE_FINITE_SCANNER_H_
#define KOINON_AGGREGATION_CORE_FINITE_SCANNER_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/model_layout.h"

namespace koinon::aggregation {

// Finds NaN and infinities in a stream of little-endian fp32 bytes that comes
// in pieces of any length. A value; not thread-safe.
//
//   FiniteScanner scanner;
//   for (chunk : chunks) scanner.Scan(chunk);
//   ABSL_RETURN_IF_ERROR(scanner.Check(layout));
class FiniteScanner {
 public:
  void Scan(absl::Span<const char> bytes);
  // INVALID_ARGUMENT that names the tensor and index of the first non-finite
  // element seen: "fc1.weight[17] is NaN".
  absl::Status Check(const ModelLayout& layout) const;

 private:
  size_t CompletePartial(absl::Span<const char> bytes);
  void ScanWhole(const char* bytes, size_t elements, uint64_t first_element);

  uint64_t scanned_bytes_ = 0;
  unsigned char partial_[4] = {};  // the first scanned_bytes_ % 4 are held
  int64_t first_bad_element_ = -1;
  bool first_bad_is_nan_ = false;
};

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_CORE_FINITE_SCANNER_H_
