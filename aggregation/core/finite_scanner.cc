#include "aggregation/core/finite_scanner.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace koinon::aggregation {
namespace {

static_assert(std::endian::native == std::endian::little,
              "the wire's fp32 is read in place");

constexpr uint32_t kMagnitude = 0x7fffffff;

uint32_t LoadBits(const char* bytes) {
  uint32_t bits;
  std::memcpy(&bits, bytes, sizeof(bits));
  return bits;
}

// Magnitudes are ordered like their bits, NaN above infinity above all else.
// The difference borrows from the sign bit exactly when the limit is passed, so
// that a block costs an AND, a SUB and an OR per element.
bool AllWithin(uint32_t limit, const char* bytes, size_t elements) {
  uint32_t borrowed = 0;
  for (size_t i = 0; i < elements; ++i) {
    borrowed |= limit - (LoadBits(bytes + 4 * i) & kMagnitude);
  }
  return (borrowed & ~kMagnitude) == 0;
}

}  // namespace

FiniteScanner::FiniteScanner(Bound bound)
    : bound_(std::move(bound)),
      limit_(std::bit_cast<uint32_t>(bound_.magnitude)) {}

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
    if (AllWithin(limit_, block, count)) continue;
    for (size_t i = 0; i < count && first_bad_element_ < 0; ++i) {
      const uint32_t bits = LoadBits(block + 4 * i);
      if ((bits & kMagnitude) <= limit_) continue;
      first_bad_element_ = static_cast<int64_t>(first_element + done + i);
      first_bad_ = std::bit_cast<float>(bits);
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
  if (!std::isfinite(first_bad_)) {
    return absl::InvalidArgumentError(absl::StrCat(
        where, " is ", std::isnan(first_bad_) ? "NaN" : "infinite"));
  }
  return absl::InvalidArgumentError(
      absl::StrCat(where, " is ", first_bad_, ", expected at most ",
                   bound_.magnitude, " in magnitude (", bound_.name, ")"));
}

}  // namespace koinon::aggregation
