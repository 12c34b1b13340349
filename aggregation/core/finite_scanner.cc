#include "aggregation/core/finite_scanner.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"

namespace koinon::aggregation {
namespace {

static_assert(std::endian::native == std::endian::little,
              "the wire's fp32 is read in place");

constexpr uint32_t kMagnitude = 0x7fffffff;
constexpr uint32_t kInfinity = 0x7f800000;

uint32_t LoadBits(const char* bytes) {
  uint32_t bits;
  std::memcpy(&bits, bytes, sizeof(bits));
  return bits;
}

// Adding one exponent step carries into the sign bit exactly when the exponent
// is all ones, so that a block costs an AND, an ADD and an OR per element.
bool AllFinite(const char* bytes, size_t elements) {
  uint32_t carried = 0;
  for (size_t i = 0; i < elements; ++i) {
    carried |= (LoadBits(bytes + 4 * i) & kMagnitude) + 0x00800000u;
  }
  return (carried & 0x80000000u) == 0;
}

}  // namespace

void FiniteScanner::Scan(absl::Span<const char> bytes) {
  bytes.remove_prefix(CompletePartial(bytes));
  const size_t elements = bytes.size() / 4;
  ScanWhole(bytes.data(), elements, scanned_bytes_ / 4);
  const size_t rest = bytes.size() - 4 * elements;
  // An empty span may have no address at all.
  if (rest > 0) std::memcpy(partial_, bytes.data() + 4 * elements, rest);
  scanned_bytes_ += bytes.size();
}

// Fills up an element that an earlier piece began; returns the bytes taken.
size_t FiniteScanner::CompletePartial(absl::Span<const char> bytes) {
  const size_t held = scanned_bytes_ % 4;
  if (held == 0 || bytes.empty()) return 0;
  const size_t taken = std::min(bytes.size(), 4 - held);
  std::memcpy(partial_ + held, bytes.data(), taken);
  if (held + taken == 4) {
    ScanWhole(reinterpret_cast<const char*>(partial_), 1, scanned_bytes_ / 4);
  }
  scanned_bytes_ += taken;
  return taken;
}

void FiniteScanner::ScanWhole(const char* bytes, size_t elements,
                              uint64_t first_element) {
  constexpr size_t kBlock = 4096;  // stays in L1 when it has to be read twice
  for (size_t done = 0; done < elements && first_bad_element_ < 0;
       done += kBlock) {
    const size_t count = std::min(kBlock, elements - done);
    const char* block = bytes + 4 * done;
    if (AllFinite(block, count)) continue;
    for (size_t i = 0; i < count && first_bad_element_ < 0; ++i) {
      const uint32_t magnitude = LoadBits(block + 4 * i) & kMagnitude;
      if (magnitude < kInfinity) continue;
      first_bad_element_ = static_cast<int64_t>(first_element + done + i);
      first_bad_is_nan_ = magnitude > kInfinity;
    }
  }
}

absl::Status FiniteScanner::Check(const ModelLayout& layout) const {
  if (first_bad_element_ < 0) return absl::OkStatus();
  const size_t index = static_cast<size_t>(first_bad_element_);
  const std::string where =
      index < layout.total_elements()
          ? layout.DescribeElement(index)
          : absl::StrCat("element ", index, ", beyond the layout's ",
                         layout.total_elements(), ",");
  return absl::InvalidArgumentError(
      absl::StrCat(where, " is ", first_bad_is_nan_ ? "NaN" : "infinite"));
}

}  // namespace koinon::aggregation
