#ifndef KOINON_DHT_SWARM_BITMAP_H_
#define KOINON_DHT_SWARM_BITMAP_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace koinon::dht {

// A set of pieces. Bit i of byte i/8, from the lowest bit, is piece i. A value.
class Bitmap {
 public:
  explicit Bitmap(size_t size = 0);
  // INVALID_ARGUMENT unless there are exactly as many bytes as `size` bits
  // need, and no bit beyond them.
  static absl::StatusOr<Bitmap> FromBytes(absl::string_view bytes, size_t size);

  std::string ToBytes() const;
  size_t size() const { return size_; }
  bool Has(size_t i) const { return (bytes_[i / 8] >> (i % 8)) & 1; }
  void Set(size_t i);
  void Clear(size_t i);
  size_t count() const { return count_; }
  bool full() const { return count_ == size_; }

  friend bool operator==(const Bitmap&, const Bitmap&) = default;

 private:
  size_t size_;
  size_t count_ = 0;
  std::vector<uint8_t> bytes_;
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_SWARM_BITMAP_H_
