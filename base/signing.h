#ifndef KOINON_BASE_SIGNING_H_
#define KOINON_BASE_SIGNING_H_

#include <array>
#include <compare>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace koinon {

// Ed25519 (RFC 8032), by OpenSSL.

// A value.
class PublicKey {
 public:
  static constexpr size_t kSizeBytes = 32;

  PublicKey() : bytes_{} {}
  // INVALID_ARGUMENT for any other length.
  static absl::StatusOr<PublicKey> FromBytes(absl::string_view bytes);
  static absl::StatusOr<PublicKey> FromHex(absl::string_view hex);

  std::string ToBytes() const;
  std::string ToHex() const;
  // SubjectPublicKeyInfo, DER (RFC 8410): 44 bytes.
  std::string ToSpki() const;

  friend bool operator==(const PublicKey&, const PublicKey&) = default;
  friend auto operator<=>(const PublicKey&, const PublicKey&) = default;

 private:
  std::array<uint8_t, kSizeBytes> bytes_;
};

inline constexpr size_t kSignatureBytes = 64;

// A private key. Thread-safe; movable.
class SigningKey {
 public:
  static SigningKey Generate();
  // The first Ed25519 private key in `pem`, whatever else is there. NOT_FOUND
  // if there is none.
  static absl::StatusOr<SigningKey> FromPem(absl::string_view pem);
  // RFC 8032's 32 bytes: for test vectors.
  static absl::StatusOr<SigningKey> FromSeed(absl::string_view seed);

  ~SigningKey();
  SigningKey(SigningKey&&) noexcept;
  SigningKey& operator=(SigningKey&&) noexcept;

  std::string ToPem() const;
  const PublicKey& public_key() const { return public_key_; }
  // 64 bytes. `context` and the message cannot be shifted against each other:
  // what is signed is the context, a zero byte, and the message. Requires a
  // context without a zero byte.
  std::string Sign(absl::string_view context, absl::string_view message) const;

 private:
  struct Key;
  explicit SigningKey(std::unique_ptr<Key> key);
  std::unique_ptr<Key> key_;
  PublicKey public_key_;
};

// Whether `signature` is the key's over `context` and `message`. False for any
// malformed signature or key.
bool VerifySignature(const PublicKey& key, absl::string_view context,
                     absl::string_view message, absl::string_view signature);

}  // namespace koinon

#endif  // KOINON_BASE_SIGNING_H_
