#include "base/signing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/openssl_ptr.h"
#include "base/status_matchers.h"

namespace koinon {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string Hex(absl::string_view hex) { return absl::HexStringToBytes(hex); }

// Verifies what was signed without a context, as the RFC's vectors are: by
// OpenSSL alone.
bool VerifyPlain(const PublicKey& key, const std::string& message,
                 const std::string& signature) {
  const std::string raw = key.ToBytes();
  const EvpPkeyPtr evp(EVP_PKEY_new_raw_public_key(
      EVP_PKEY_ED25519, nullptr,
      reinterpret_cast<const unsigned char*>(raw.data()), raw.size()));
  const EvpMdCtxPtr context(EVP_MD_CTX_new());
  EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, evp.get());
  const bool verified =
      EVP_DigestVerify(context.get(),
                       reinterpret_cast<const unsigned char*>(signature.data()),
                       signature.size(),
                       reinterpret_cast<const unsigned char*>(message.data()),
                       message.size()) == 1;
  ERR_clear_error();
  return verified;
}

// RFC 8032, section 7.1.
struct Vector {
  const char* seed;
  const char* public_key;
  const char* message;
  const char* signature;
};
constexpr Vector kRfc8032[] = {
    {"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
     "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
     "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"},
    {"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
     "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
     "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"},
    {"c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
     "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
     "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
     "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"},
};

TEST(SigningKeyTest, Rfc8032Seeds_HaveTheirPublicKeys) {
  for (const Vector& vector : kRfc8032) {
    ASSERT_OK_AND_ASSIGN(const SigningKey key,
                         SigningKey::FromSeed(Hex(vector.seed)));
    EXPECT_EQ(key.public_key().ToHex(), vector.public_key);
    EXPECT_TRUE(VerifyPlain(key.public_key(), Hex(vector.message),
                            Hex(vector.signature)));
  }
}

// With the third vector's key one byte of the message is the zero byte that
// ends an empty context: a signature of ours is RFC 8032's over the joined
// bytes.
TEST(SigningKeyTest, Signature_IsRfc8032sOverContextZeroAndMessage) {
  for (const Vector& vector : kRfc8032) {
    ASSERT_OK_AND_ASSIGN(const SigningKey key,
                         SigningKey::FromSeed(Hex(vector.seed)));
    const std::string signature = key.Sign("context", "message");
    EXPECT_EQ(signature.size(), kSignatureBytes);
    EXPECT_TRUE(VerifyPlain(key.public_key(),
                            std::string("context\0message", 15), signature));
    // RFC 8032 signatures have no randomness.
    EXPECT_EQ(signature, key.Sign("context", "message"));
  }
}

TEST(VerifySignatureTest, OwnSignature_IsGood) {
  const SigningKey key = SigningKey::Generate();
  for (const std::string& message :
       {std::string(), std::string("x"), std::string("\0y", 2),
        std::string(100'000, 'z')}) {
    EXPECT_TRUE(VerifySignature(key.public_key(), "context", message,
                                key.Sign("context", message)));
  }
}

TEST(VerifySignatureTest, AnyFlippedBit_IsRefused) {
  const SigningKey key = SigningKey::Generate();
  const std::string message = "message";
  const std::string signature = key.Sign("context", message);
  const auto flip = [](std::string bytes, size_t bit) {
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << (bit % 8)));
    return bytes;
  };
  for (size_t bit = 0; bit < 8 * signature.size(); ++bit) {
    EXPECT_FALSE(VerifySignature(key.public_key(), "context", message,
                                 flip(signature, bit)));
  }
  for (size_t bit = 0; bit < 8 * message.size(); ++bit) {
    EXPECT_FALSE(VerifySignature(key.public_key(), "context",
                                 flip(message, bit), signature));
  }
  for (size_t bit = 0; bit < 8 * PublicKey::kSizeBytes; ++bit) {
    const PublicKey other =
        *PublicKey::FromBytes(flip(key.public_key().ToBytes(), bit));
    EXPECT_FALSE(VerifySignature(other, "context", message, signature));
  }
}

TEST(VerifySignatureTest, AnotherContext_IsRefused) {
  const SigningKey key = SigningKey::Generate();
  const std::string signature = key.Sign("ab", "cd");
  EXPECT_FALSE(VerifySignature(key.public_key(), "a", "bcd", signature));
  EXPECT_FALSE(VerifySignature(key.public_key(), "abc", "d", signature));
  EXPECT_FALSE(VerifySignature(key.public_key(), "", "abcd", signature));
  EXPECT_TRUE(VerifySignature(key.public_key(), "ab", "cd", signature));
}

TEST(VerifySignatureTest, SignatureOfAnotherLength_IsRefused) {
  const SigningKey key = SigningKey::Generate();
  const std::string signature = key.Sign("c", "m");
  EXPECT_FALSE(VerifySignature(key.public_key(), "c", "m", ""));
  EXPECT_FALSE(
      VerifySignature(key.public_key(), "c", "m", signature.substr(0, 63)));
  EXPECT_FALSE(VerifySignature(key.public_key(), "c", "m", signature + "x"));
}

// S and S + L are the same number modulo the group's order L: who accepted both
// would give one message two signatures.
TEST(VerifySignatureTest, ScalarPastTheGroupsOrder_IsRefused) {
  const SigningKey key = SigningKey::Generate();
  std::string signature = key.Sign("c", "m");
  const std::string order =
      Hex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
  int carry = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    carry += static_cast<unsigned char>(signature[32 + i]) +
             static_cast<unsigned char>(order[i]);
    signature[32 + i] = static_cast<char>(carry & 0xff);
    carry >>= 8;
  }
  ASSERT_EQ(carry, 0);
  EXPECT_FALSE(VerifySignature(key.public_key(), "c", "m", signature));
}

// Under the neutral element as a key, its own encoding with S = 0 is a good
// signature of everything (and of some messages under the seven others).
TEST(VerifySignatureTest, KeyOfSmallOrder_IsRefused) {
  const std::string neutral = std::string("\1", 1) + std::string(31, '\0');
  const std::string forged = neutral + std::string(32, '\0');
  ASSERT_TRUE(VerifyPlain(*PublicKey::FromBytes(neutral), "anything", forged));
  EXPECT_FALSE(
      VerifySignature(*PublicKey::FromBytes(neutral), "c", "anything", forged));
  for (int i = 0; i < 64; ++i) {
    const std::string message = absl::StrCat(i);
    EXPECT_FALSE(VerifySignature(PublicKey(), "c", message, forged));
    EXPECT_FALSE(
        VerifySignature(*PublicKey::FromHex("c7176a703d4dd84fba3c0b760d10670f"
                                            "2a2053fa2c39ccc64ec7fd7792ac03fa"),
                        "c", message, forged));
  }
}

TEST(SigningKeyTest, ToPemAndBack_IsTheSameKey) {
  const SigningKey key = SigningKey::Generate();
  EXPECT_THAT(key.ToPem(), StartsWith("-----BEGIN PRIVATE KEY-----\n"));
  ASSERT_OK_AND_ASSIGN(const SigningKey read, SigningKey::FromPem(key.ToPem()));
  EXPECT_EQ(read.public_key(), key.public_key());
  EXPECT_EQ(read.Sign("c", "m"), key.Sign("c", "m"));
}

// RFC 8410, sections 10.1 and 10.3.
TEST(SigningKeyTest, Rfc8410Example_IsRead) {
  ASSERT_OK_AND_ASSIGN(
      const SigningKey key,
      SigningKey::FromPem(
          "-----BEGIN PRIVATE KEY-----\n"
          "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n"
          "-----END PRIVATE KEY-----\n"));
  EXPECT_EQ(absl::Base64Escape(key.public_key().ToSpki()),
            "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=");
}

std::string EcKeyPem() {
  const EvpPkeyPtr key(EVP_EC_gen("P-256"));
  const BioPtr bio(BIO_new(BIO_s_mem()));
  PEM_write_bio_PKCS8PrivateKey(bio.get(), key.get(), nullptr, nullptr, 0,
                                nullptr, nullptr);
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return std::string(data, static_cast<size_t>(size));
}

TEST(FromPemTest, SeveralObjects_TheFirstEd25519KeyIsFound) {
  const SigningKey first = SigningKey::Generate();
  const SigningKey second = SigningKey::Generate();
  const std::string text = absl::StrCat("a comment\n", EcKeyPem(),
                                        "-----BEGIN PRIVATE KEY-----\nbroken!\n"
                                        "-----END PRIVATE KEY-----\n"
                                        "-----BEGIN CERTIFICATE-----\nAAAA\n"
                                        "-----END CERTIFICATE-----\n",
                                        first.ToPem(), second.ToPem());
  ASSERT_OK_AND_ASSIGN(const SigningKey read, SigningKey::FromPem(text));
  EXPECT_EQ(read.public_key(), first.public_key());
}

TEST(FromPemTest, None_NotFound) {
  for (const std::string& pem :
       {std::string(), std::string("rubbish"), EcKeyPem(),
        std::string("-----BEGIN PRIVATE KEY-----\n"),
        std::string("-----BEGIN PRIVATE KEY-----\nMC4C\n"
                    "-----END PRIVATE KEY-----\n"),
        std::string((1 << 20) + 1, 'x')}) {
    EXPECT_THAT(SigningKey::FromPem(pem),
                StatusIs(absl::StatusCode::kNotFound, HasSubstr("Ed25519")));
  }
}

TEST(FromSeedTest, AnotherLength_InvalidArgument) {
  for (const size_t size : {0u, 31u, 33u, 64u}) {
    EXPECT_THAT(SigningKey::FromSeed(std::string(size, 's')),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr(absl::StrCat("found ", size))));
  }
}

TEST(GenerateTest, Keys_Differ) {
  std::set<PublicKey> keys;
  for (int i = 0; i < 20; ++i) keys.insert(SigningKey::Generate().public_key());
  EXPECT_EQ(keys.size(), 20u);
}

TEST(SigningKeyTest, Moved_StillSigns) {
  SigningKey key = SigningKey::Generate();
  const PublicKey public_key = key.public_key();
  const SigningKey moved = std::move(key);
  EXPECT_TRUE(VerifySignature(public_key, "c", "m", moved.Sign("c", "m")));
}

TEST(SigningKeyTest, OneKeyInSeveralThreads_SignsTheSame) {
  const SigningKey key = SigningKey::Generate();
  const std::string expected = key.Sign("c", "m");
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < 50; ++j) {
        EXPECT_EQ(key.Sign("c", "m"), expected);
        EXPECT_TRUE(VerifySignature(key.public_key(), "c", "m", expected));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(PublicKeyTest, BytesAndHex_AreReadBack) {
  const PublicKey key = SigningKey::Generate().public_key();
  EXPECT_THAT(PublicKey::FromBytes(key.ToBytes()), IsOkAndHolds(key));
  EXPECT_THAT(PublicKey::FromHex(key.ToHex()), IsOkAndHolds(key));
}

TEST(PublicKeyTest, OtherLengthsAndDigits_InvalidArgument) {
  EXPECT_THAT(
      PublicKey::FromBytes(std::string(33, 'x')),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("found 33")));
  EXPECT_THAT(PublicKey::FromHex(std::string(64, 'x')),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(PublicKey::FromHex("ab"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("found 2 characters")));
}

}  // namespace
}  // namespace koinon
