#include "dht/swarm/bitmap.h"

#include <bit>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace koinon::dht {

Bitmap::Bitmap(size_t size) : size_(size), bytes_(size / 8 + (size % 8 != 0)) {}

absl::StatusOr<Bitmap> Bitmap::FromBytes(absl::string_view bytes, size_t size) {
  const size_t needed = size / 8 + (size % 8 != 0);
  if (bytes.size() != needed) {
    return absl::InvalidArgumentError(
        absl::StrCat("a bitmap of ", size, " pieces has ", needed,
                     " bytes, found ", bytes.size()));
  }
  const size_t used_bits = size % 8;
  if (used_bits != 0 && (static_cast<uint8_t>(bytes.back()) >> used_bits)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a bitmap of ", size, " pieces has no bit after the last one, found ",
        static_cast<int>(static_cast<uint8_t>(bytes.back())),
        " as its last byte"));
  }
  Bitmap bitmap(size);
  for (size_t i = 0; i < needed; ++i) {
    bitmap.bytes_[i] = static_cast<uint8_t>(bytes[i]);
    bitmap.count_ += std::popcount(bitmap.bytes_[i]);
  }
  return bitmap;
}

std::string Bitmap::ToBytes() const {
  return std::string(bytes_.begin(), bytes_.end());
}

void Bitmap::Set(size_t i) {
  KOINON_CHECK(i < size_);
  uint8_t& byte = bytes_[i / 8];
  const uint8_t bit = static_cast<uint8_t>(1u << (i % 8));
  count_ += (byte & bit) == 0;
  byte |= bit;
}

void Bitmap::Clear(size_t i) {
  KOINON_CHECK(i < size_);
  uint8_t& byte = bytes_[i / 8];
  const uint8_t bit = static_cast<uint8_t>(1u << (i % 8));
  count_ -= (byte & bit) != 0;
  byte &= static_cast<uint8_t>(~bit);
}

}  // namespace koinon::dht
