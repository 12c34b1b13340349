#include "base/digest.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cctype>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace koinon {

absl::StatusOr<Digest> Digest::FromBytes(absl::string_view bytes) {
  if (bytes.size() != kSizeBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("a SHA-256 digest has 32 bytes, found ", bytes.size()));
  }
  Digest digest;
  std::memcpy(digest.bytes_.data(), bytes.data(), kSizeBytes);
  return digest;
}

absl::StatusOr<Digest> Digest::FromHex(absl::string_view hex) {
  const bool all_digits =
      std::all_of(hex.begin(), hex.end(),
                  [](unsigned char c) { return std::isxdigit(c) != 0; });
  if (hex.size() != 2 * kSizeBytes || !all_digits) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a SHA-256 digest is written as 64 hexadecimal digits, found ",
        hex.size(), " characters: ", absl::CHexEscape(hex.substr(0, 64))));
  }
  return FromBytes(absl::HexStringToBytes(hex));
}

std::string Digest::ToHex() const { return absl::BytesToHexString(ToBytes()); }

std::string Digest::ToBytes() const {
  return std::string(bytes_.begin(), bytes_.end());
}

std::string Digest::ToShortHex() const { return ToHex().substr(0, 12); }

namespace {

// Looked up once: OpenSSL takes locks and compares strings each time.
const EVP_MD* Algorithm() {
  static const EVP_MD* const sha256 = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  KOINON_CHECK(sha256 != nullptr);
  return sha256;
}

}  // namespace

struct Sha256::Context {
  Context() : evp(EVP_MD_CTX_new()) { KOINON_CHECK(evp != nullptr); }
  ~Context() { EVP_MD_CTX_free(evp); }
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  void Start() {
    KOINON_CHECK(EVP_DigestInit_ex(evp, Algorithm(), nullptr) == 1);
  }

  EVP_MD_CTX* const evp;
};

Sha256::Sha256() : context_(std::make_unique<Context>()) { context_->Start(); }
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::Update(const void* data, size_t size_bytes) {
  KOINON_CHECK(EVP_DigestUpdate(context_->evp, data, size_bytes) == 1);
}

Digest Sha256::Finish() {
  Digest digest;
  KOINON_CHECK(
      EVP_DigestFinal_ex(context_->evp, digest.bytes_.data(), nullptr) == 1);
  context_->Start();
  return digest;
}

Digest Sha256Of(absl::string_view data) {
  Sha256 sha;
  sha.Update(data);
  return sha.Finish();
}

}  // namespace koinon
