#ifndef KOINON_BASE_DIGEST_H_
#define KOINON_BASE_DIGEST_H_

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace koinon {

// A SHA-256 digest: the name of content. A value.
class Digest {
 public:
  static constexpr size_t kSizeBytes = 32;

  // All zeros: the digest of nothing that exists.
  Digest() : bytes_{} {}

  // From 32 raw bytes. INVALID_ARGUMENT for any other length.
  static absl::StatusOr<Digest> FromBytes(absl::string_view bytes);
  // From 64 hexadecimal digits. INVALID_ARGUMENT for anything else.
  static absl::StatusOr<Digest> FromHex(absl::string_view hex);

  std::string ToHex() const;
  // 32 raw bytes, as the wire carries them.
  std::string ToBytes() const;
  // The first 12 hexadecimal digits, for messages and logs.
  std::string ToShortHex() const;
  const std::array<uint8_t, kSizeBytes>& bytes() const { return bytes_; }
  bool IsZero() const { return *this == Digest(); }

  friend bool operator==(const Digest&, const Digest&) = default;
  friend auto operator<=>(const Digest&, const Digest&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const Digest& d) {
    return H::combine(std::move(h), d.bytes_);
  }

 private:
  friend class Sha256;
  std::array<uint8_t, kSizeBytes> bytes_;
};

// Streaming SHA-256 (OpenSSL). Not thread-safe; movable.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;

  void Update(const void* data, size_t size_bytes);
  void Update(absl::string_view data) { Update(data.data(), data.size()); }
  // The digest of all bytes so far; starts anew.
  Digest Finish();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

Digest Sha256Of(absl::string_view data);

}  // namespace koinon

#endif  // KOINON_BASE_DIGEST_H_
