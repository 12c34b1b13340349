#include "worker/data/idx.h"

#include <bit>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"

namespace koinon::worker {
namespace {

constexpr size_t kPreambleBytes = 4;
constexpr size_t kMaxRank = 8;

enum IdxType : uint8_t {
  kU8 = 0x08,
  kI8 = 0x09,
  kI16 = 0x0b,
  kI32 = 0x0c,
  kF32 = 0x0d,
  kF64 = 0x0e,
};

// 0 for a type that IDX does not have.
size_t SizeOfType(uint8_t type) {
  switch (type) {
    case kU8:
    case kI8:
      return 1;
    case kI16:
      return 2;
    case kI32:
    case kF32:
      return 4;
    case kF64:
      return 8;
    default:
      return 0;
  }
}

template <typename Unsigned>
Unsigned LoadBigEndian(const char* p) {
  Unsigned value = 0;
  for (size_t i = 0; i < sizeof(Unsigned); ++i) {
    value = static_cast<Unsigned>((value << 8) | static_cast<uint8_t>(p[i]));
  }
  return value;
}

float LoadElement(uint8_t type, const char* p) {
  switch (type) {
    case kU8:
      return static_cast<uint8_t>(*p);
    case kI8:
      return static_cast<int8_t>(*p);
    case kI16:
      return static_cast<int16_t>(LoadBigEndian<uint16_t>(p));
    case kI32:
      return static_cast<float>(
          static_cast<int32_t>(LoadBigEndian<uint32_t>(p)));
    case kF32:
      return std::bit_cast<float>(LoadBigEndian<uint32_t>(p));
    default:
      return static_cast<float>(
          std::bit_cast<double>(LoadBigEndian<uint64_t>(p)));
  }
}

}  // namespace

absl::StatusOr<NumericArray> DecodeIdx(absl::string_view what,
                                       absl::string_view bytes,
                                       uint64_t max_bytes) {
  if (bytes.size() < kPreambleBytes) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: expected an IDX header of at least 4 bytes, found %d", what,
        bytes.size()));
  }
  const uint8_t type = bytes[2];
  const size_t rank = static_cast<uint8_t>(bytes[3]);
  const size_t element_bytes = SizeOfType(type);
  if (bytes[0] != 0 || bytes[1] != 0 || element_bytes == 0) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: offset 0: expected IDX's 00 00 and a type of 08, 09, 0b, 0c, 0d "
        "or 0e, found %02x %02x %02x",
        what, static_cast<uint8_t>(bytes[0]), static_cast<uint8_t>(bytes[1]),
        type));
  }
  if (rank == 0 || rank > kMaxRank) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: offset 3: expected 1 to %d dimensions, found %d",
                        what, kMaxRank, rank));
  }
  const size_t data_offset = kPreambleBytes + 4 * rank;
  if (bytes.size() < data_offset) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: expected %d bytes of header for %d dimensions, found %d", what,
        data_offset, rank, bytes.size()));
  }
  NumericArray array;
  for (size_t i = 0; i < rank; ++i) {
    array.shape.push_back(
        LoadBigEndian<uint32_t>(bytes.data() + kPreambleBytes + 4 * i));
  }
  ABSL_ASSIGN_OR_RETURN(const size_t count,
                        CheckedElementCount(what, array.shape, max_bytes));
  const size_t found_bytes = bytes.size() - data_offset;
  if (found_bytes != count * element_bytes) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: offset %d: expected %d bytes for shape %s, found %d", what,
        data_offset, count * element_bytes, FormatShape(array.shape),
        found_bytes));
  }
  array.values.resize(count);
  for (size_t i = 0; i < count; ++i) {
    array.values[i] =
        LoadElement(type, bytes.data() + data_offset + i * element_bytes);
  }
  ABSL_RETURN_IF_ERROR(CheckFinite(what, array.values));
  return array;
}

}  // namespace koinon::worker
