#include "base/digest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "absl/hash/hash_testing.h"
#include "base/status_matchers.h"

namespace koinon {
namespace {

using testing::HasSubstr;

// FIPS 180-4, the examples for SHA-256.
constexpr char kEmptyHex[] =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
constexpr char kAbcHex[] =
    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

TEST(Sha256Test, KnownInputs_KnownDigests) {
  EXPECT_EQ(Sha256Of("").ToHex(), kEmptyHex);
  EXPECT_EQ(Sha256Of("abc").ToHex(), kAbcHex);
}

TEST(Sha256Test, Update_InPieces_SameAsInOne) {
  Sha256 sha;
  sha.Update("a");
  sha.Update("");
  sha.Update("bc");
  EXPECT_EQ(sha.Finish().ToHex(), kAbcHex);
}

TEST(Sha256Test, Finish_Twice_StartsAnew) {
  Sha256 sha;
  sha.Update("something");
  sha.Finish();
  EXPECT_EQ(sha.Finish().ToHex(), kEmptyHex);
}

TEST(Sha256Test, Move_Midway_KeepsTheBytes) {
  Sha256 sha;
  sha.Update("ab");
  Sha256 moved = std::move(sha);
  moved.Update("c");
  EXPECT_EQ(moved.Finish().ToHex(), kAbcHex);
}

TEST(DigestTest, Default_IsZero) {
  EXPECT_TRUE(Digest().IsZero());
  EXPECT_FALSE(Sha256Of("").IsZero());
}

TEST(DigestTest, HexAndBytes_RoundTrip_GiveTheSame) {
  const Digest digest = Sha256Of("abc");
  EXPECT_THAT(Digest::FromHex(digest.ToHex()), IsOkAndHolds(digest));
  EXPECT_THAT(Digest::FromBytes(digest.ToBytes()), IsOkAndHolds(digest));
  EXPECT_EQ(digest.ToBytes().size(), 32u);
  EXPECT_EQ(digest.ToShortHex(), "ba7816bf8f01");
}

TEST(DigestTest, FromHex_UpperCase_IsRead) {
  std::string hex = kAbcHex;
  hex[0] = 'B';
  EXPECT_THAT(Digest::FromHex(hex), IsOkAndHolds(Sha256Of("abc")));
}

TEST(DigestTest, FromHex_WrongLengthOrDigit_InvalidArgument) {
  const std::string hex = kAbcHex;
  EXPECT_THAT(Digest::FromHex(hex.substr(1)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("63")));
  EXPECT_THAT(Digest::FromHex(hex + "0"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("65")));
  EXPECT_THAT(Digest::FromHex("g" + hex.substr(1)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("hexa")));
}

TEST(DigestTest, FromBytes_WrongLength_InvalidArgument) {
  EXPECT_THAT(Digest::FromBytes(std::string(31, 'x')),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("31")));
}

TEST(DigestTest, Comparison_OfBytes_OrdersAndHashes) {
  EXPECT_LT(Digest(), Sha256Of("abc"));
  EXPECT_TRUE(absl::VerifyTypeImplementsAbslHashCorrectly(
      {Digest(), Sha256Of("a"), Sha256Of("b")}));
}

}  // namespace
}  // namespace koinon
