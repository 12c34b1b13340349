#include "base/node_identity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/status_matchers.h"

namespace koinon {
namespace {

using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

// The vector of docs/formats/record.md.
NodeIdentity VectorIdentity() {
  return {SigningKey::FromSeed(std::string(32, '\x01'))->public_key(),
          absl::HexStringToBytes("000102030405060708090a0b0c0d0e0f"), "lab"};
}
constexpr char kVectorUri[] =
    "koinon-node:1:"
    "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c:"
    "000102030405060708090a0b0c0d0e0f:lab";

TEST(NodeIdTest, Vector_IsTheDocuments) {
  EXPECT_EQ(NodeIdOf("north", VectorIdentity()).ToHex(),
            "7f3f62d1fa4fcde81d4b927c3a891cdcb9a497bccf35e10bc27f75e8b5c9b379");
}

TEST(NodeIdTest, FederationKeyOrNonce_ChangeIt_TheSiteDoesNot) {
  NodeIdentity node = VectorIdentity();
  std::set<Digest> ids = {NodeIdOf("north", node), NodeIdOf("south", node)};
  node.nonce[15] ^= 1;
  ids.insert(NodeIdOf("north", node));
  node = VectorIdentity();
  node.key = SigningKey::Generate().public_key();
  ids.insert(NodeIdOf("north", node));
  EXPECT_EQ(ids.size(), 4u);
  node = VectorIdentity();
  node.site = "elsewhere";
  EXPECT_EQ(NodeIdOf("north", node), NodeIdOf("north", VectorIdentity()));
}

TEST(NodeIdentityUriTest, Vector_IsWrittenAndRead) {
  EXPECT_EQ(NodeIdentityUri(VectorIdentity()), kVectorUri);
  EXPECT_THAT(ParseNodeIdentityUri(kVectorUri), IsOkAndHolds(VectorIdentity()));
}

TEST(NodeIdentityUriTest, WithoutASite_IsRead) {
  NodeIdentity node = VectorIdentity();
  node.site.clear();
  EXPECT_THAT(ParseNodeIdentityUri(NodeIdentityUri(node)), IsOkAndHolds(node));
}

TEST(NodeIdentityUriTest, AnythingElse_InvalidArgument) {
  const std::string good = kVectorUri;
  for (const std::string& uri :
       {std::string(), std::string("koinon-node:"), std::string("koinon-node"),
        std::string("koinon-node:1::::"),
        std::string("koinon://north/worker/w1"),
        good.substr(0, good.size() - 4),  // without the last ':'
        good + ":x", " " + good,
        absl::StrReplaceAll(good, {{"node:1:", "node:2:"}}),
        absl::StrReplaceAll(good, {{"node:1:", "node:01:"}}),
        absl::StrReplaceAll(good, {{"koinon-node", "Koinon-node"}}),
        absl::StrReplaceAll(good, {{"8a88e3", "8A88e3"}}),
        absl::StrReplaceAll(good, {{"8a88e3", "8g88e3"}}),
        absl::StrReplaceAll(good, {{"8a88e3", "88e3"}}),
        absl::StrReplaceAll(good, {{"0e0f:", "0E0f:"}}),
        absl::StrReplaceAll(good, {{"0e0f:", "0x0f:"}}),
        absl::StrReplaceAll(good, {{"0e0f:", "0e:"}}),
        absl::StrReplaceAll(good, {{"0e0f:", "0e0f0:"}}),
        good + std::string(10'000, 'x')}) {
    EXPECT_THAT(ParseNodeIdentityUri(uri),
                StatusIs(kInvalid, HasSubstr("koinon-node:1:KEY:NONCE:SITE")))
        << uri.substr(0, 300);
  }
}

TEST(NodeIdentityUriTest, BadSite_InvalidArgument) {
  for (const std::string& site :
       {std::string("North"), std::string("a/b"), std::string("."),
        std::string(64, 'a'), std::string("a\nb"), std::string("lab "),
        std::string("lab\0", 4)}) {
    NodeIdentity node = VectorIdentity();
    node.site = site;
    EXPECT_THAT(ParseNodeIdentityUri(NodeIdentityUri(node)),
                StatusIs(kInvalid, HasSubstr("site")))
        << site;
  }
}

TEST(SelfMadeIdentityTest, SameKey_SameNode) {
  const PublicKey key = SigningKey::Generate().public_key();
  const NodeIdentity node = SelfMadeIdentity(key, "lab");
  EXPECT_EQ(node, SelfMadeIdentity(key, "lab"));
  EXPECT_EQ(node.key, key);
  EXPECT_EQ(node.site, "lab");
  EXPECT_EQ(node.nonce.size(), NodeIdentity::kNonceBytes);
  EXPECT_NE(node.nonce,
            SelfMadeIdentity(SigningKey::Generate().public_key(), "lab").nonce);
}

}  // namespace
}  // namespace koinon
