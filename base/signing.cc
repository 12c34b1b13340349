#include "base/signing.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/openssl_ptr.h"

namespace koinon {
namespace {

// RFC 8410, section 4: a SEQUENCE of the algorithm 1.3.101.112 and a BIT STRING
// of the key's 32 bytes.
constexpr char kSpkiPrefixHex[] = "302a300506032b6570032100";
// Far more than a file of certificates and keys takes.
constexpr size_t kMaxPemBytes = 1u << 20;

const unsigned char* Bytes(absl::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

// The encodings of the curve's points of order 1, 2, 4 and 8 (without the sign
// of x), canonical and not. Under such a key some signatures are good for any
// message, so that it is nobody's: the key of zeros, for one, which every
// PublicKey starts as.
bool HasSmallOrder(const PublicKey& key) {
  static constexpr absl::string_view kSmallOrder[] = {
      "0000000000000000000000000000000000000000000000000000000000000000",
      "0100000000000000000000000000000000000000000000000000000000000000",
      "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
      "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
      "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
      "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
      "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  };
  std::string bytes = key.ToBytes();
  bytes.back() = static_cast<char>(bytes.back() & 0x7f);
  const std::string hex = absl::BytesToHexString(bytes);
  return std::find(std::begin(kSmallOrder), std::end(kSmallOrder), hex) !=
         std::end(kSmallOrder);
}

std::string Join(absl::string_view context, absl::string_view message) {
  KOINON_CHECK(context.find('\0') == absl::string_view::npos);
  return absl::StrCat(context, absl::string_view("\0", 1), message);
}

// One object of a PEM file, whatever it is.
struct PemObject {
  ~PemObject() {
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_clear_free(data, static_cast<size_t>(size));
  }
  char* name = nullptr;
  char* header = nullptr;
  unsigned char* data = nullptr;
  long size = 0;
};

// The next Ed25519 key in `pem`, or null at its end.
EvpPkeyPtr NextEd25519Key(BIO* pem) {
  while (BIO_ctrl_pending(pem) > 0) {
    PemObject object;
    // What is no PEM object is stepped over: at least a line at a time.
    if (PEM_read_bio(pem, &object.name, &object.header, &object.data,
                     &object.size) != 1) {
      continue;
    }
    if (absl::string_view(object.name) != PEM_STRING_PKCS8INF) continue;
    const unsigned char* data = object.data;
    EvpPkeyPtr key(d2i_AutoPrivateKey(nullptr, &data, object.size));
    if (key != nullptr && EVP_PKEY_id(key.get()) == EVP_PKEY_ED25519) {
      return key;
    }
  }
  return nullptr;
}

}  // namespace

absl::StatusOr<PublicKey> PublicKey::FromBytes(absl::string_view bytes) {
  if (bytes.size() != kSizeBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "an Ed25519 public key has 32 bytes, found ", bytes.size()));
  }
  PublicKey key;
  std::copy(bytes.begin(), bytes.end(), key.bytes_.begin());
  return key;
}

absl::StatusOr<PublicKey> PublicKey::FromHex(absl::string_view hex) {
  const bool all_digits = std::all_of(hex.begin(), hex.end(), [](char c) {
    return absl::ascii_isxdigit(static_cast<unsigned char>(c));
  });
  if (hex.size() != 2 * kSizeBytes || !all_digits) {
    return absl::InvalidArgumentError(absl::StrCat(
        "an Ed25519 public key is written as 64 hexadecimal "
        "digits, found ",
        hex.size(),
        " characters: ", absl::CHexEscape(hex.substr(0, 2 * kSizeBytes))));
  }
  return FromBytes(absl::HexStringToBytes(hex));
}

std::string PublicKey::ToBytes() const {
  return std::string(bytes_.begin(), bytes_.end());
}

std::string PublicKey::ToHex() const {
  return absl::BytesToHexString(ToBytes());
}

std::string PublicKey::ToSpki() const {
  return absl::HexStringToBytes(kSpkiPrefixHex) + ToBytes();
}

struct SigningKey::Key {
  EvpPkeyPtr evp;
};

SigningKey::SigningKey(std::unique_ptr<Key> key) : key_(std::move(key)) {
  std::string bytes(PublicKey::kSizeBytes, '\0');
  size_t size = bytes.size();
  KOINON_CHECK(EVP_PKEY_get_raw_public_key(
                   key_->evp.get(),
                   reinterpret_cast<unsigned char*>(bytes.data()), &size) == 1);
  absl::StatusOr<PublicKey> public_key =
      PublicKey::FromBytes(absl::string_view(bytes).substr(0, size));
  KOINON_CHECK(public_key.ok());
  public_key_ = *public_key;
}

SigningKey::~SigningKey() = default;
SigningKey::SigningKey(SigningKey&&) noexcept = default;
SigningKey& SigningKey::operator=(SigningKey&&) noexcept = default;

SigningKey SigningKey::Generate() {
  auto key = std::make_unique<Key>();
  key->evp.reset(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"));
  KOINON_CHECK(key->evp != nullptr);
  return SigningKey(std::move(key));
}

absl::StatusOr<SigningKey> SigningKey::FromPem(absl::string_view pem) {
  auto key = std::make_unique<Key>();
  if (pem.size() <= kMaxPemBytes) {
    key->evp = NextEd25519Key(ReadOnlyBio(pem).get());
    ERR_clear_error();
  }
  if (key->evp == nullptr) {
    return absl::NotFoundError(
        "expected an Ed25519 private key in PEM without a passphrase, found "
        "none");
  }
  return SigningKey(std::move(key));
}

absl::StatusOr<SigningKey> SigningKey::FromSeed(absl::string_view seed) {
  auto key = std::make_unique<Key>();
  key->evp.reset(EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr,
                                              Bytes(seed), seed.size()));
  ERR_clear_error();
  if (key->evp == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the seed of an Ed25519 key has 32 bytes, found ", seed.size()));
  }
  return SigningKey(std::move(key));
}

std::string SigningKey::ToPem() const {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  KOINON_CHECK(PEM_write_bio_PKCS8PrivateKey(bio.get(), key_->evp.get(),
                                             nullptr, nullptr, 0, nullptr,
                                             nullptr) == 1);
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return std::string(data, static_cast<size_t>(size));
}

std::string SigningKey::Sign(absl::string_view context,
                             absl::string_view message) const {
  const std::string text = Join(context, message);
  const EvpMdCtxPtr signing(EVP_MD_CTX_new());
  std::string signature(kSignatureBytes, '\0');
  size_t size = signature.size();
  KOINON_CHECK(
      signing != nullptr &&
      EVP_DigestSignInit(signing.get(), nullptr, nullptr, nullptr,
                         key_->evp.get()) == 1 &&
      EVP_DigestSign(signing.get(),
                     reinterpret_cast<unsigned char*>(signature.data()), &size,
                     Bytes(text), text.size()) == 1 &&
      size == kSignatureBytes);
  return signature;
}

bool VerifySignature(const PublicKey& key, absl::string_view context,
                     absl::string_view message, absl::string_view signature) {
  if (signature.size() != kSignatureBytes || HasSmallOrder(key)) return false;
  const std::string text = Join(context, message);
  const std::string raw = key.ToBytes();
  const EvpPkeyPtr evp(EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr,
                                                   Bytes(raw), raw.size()));
  const EvpMdCtxPtr verifying(EVP_MD_CTX_new());
  const bool verified =
      evp != nullptr && verifying != nullptr &&
      EVP_DigestVerifyInit(verifying.get(), nullptr, nullptr, nullptr,
                           evp.get()) == 1 &&
      EVP_DigestVerify(verifying.get(), Bytes(signature), signature.size(),
                       Bytes(text), text.size()) == 1;
  ERR_clear_error();
  return verified;
}

}  // namespace koinon
