#ifndef KOINON_AGGREGATION_CORE_FINITE_SCANNER_H_
#define KOINON_AGGREGATION_CORE_FINITE_SCANNER_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/model_layout.h"

namespace koinon::aggregation {

// Finds NaN, infinities, and values beyond a bound in a stream of little-endian
// fp32 bytes that comes in pieces of any length. A value; not thread-safe.
//
//   FiniteScanner scanner;
//   for (chunk : chunks) scanner.Scan(chunk);
//   ABSL_RETURN_IF_ERROR(scanner.Check(layout));
class FiniteScanner {
 public:
  struct Bound {
    float magnitude = std::numeric_limits<float>::max();
    std::string name;  // for messages: the option that sets it
  };

  FiniteScanner() : FiniteScanner(Bound()) {}
  explicit FiniteScanner(Bound bound);

  void Scan(absl::Span<const char> bytes);
  // INVALID_ARGUMENT that names the tensor and index of the first bad element
  // seen: "fc1.weight[17] is NaN".
  absl::Status Check(const ModelLayout& layout) const;

 private:
  size_t CompletePartial(absl::Span<const char> bytes);
  void ScanWhole(const char* bytes, size_t elements, uint64_t first_element);

  Bound bound_;
  uint32_t limit_;  // the bound's bits
  uint64_t scanned_bytes_ = 0;
  unsigned char partial_[4] = {};  // the first scanned_bytes_ % 4 are held
  int64_t first_bad_element_ = -1;
  float first_bad_ = 0;
};

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_CORE_FINITE_SCANNER_H_
