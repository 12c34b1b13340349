#include "base/peer_identity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/status_matchers.h"

namespace koinon {
namespace {

using ::testing::HasSubstr;

using Role = PeerIdentity::Role;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

TEST(ParseIdentityUriTest, Roles_AreRead) {
  ASSERT_OK_AND_ASSIGN(const PeerIdentity worker,
                       ParseIdentityUri("koinon://north/worker/w-1"));
  EXPECT_EQ(worker.role, Role::kWorker);
  EXPECT_EQ(worker.federation, "north");
  EXPECT_EQ(worker.name, "w-1");
  EXPECT_EQ(worker.node, std::nullopt);
  ASSERT_OK_AND_ASSIGN(const PeerIdentity client,
                       ParseIdentityUri("koinon://north/client/ann"));
  EXPECT_EQ(client.role, Role::kClient);
  ASSERT_OK_AND_ASSIGN(const PeerIdentity server,
                       ParseIdentityUri("koinon://north/server/main"));
  EXPECT_EQ(server.role, Role::kServer);
  ASSERT_OK_AND_ASSIGN(const PeerIdentity node,
                       ParseIdentityUri("koinon://north/node/d1"));
  EXPECT_EQ(node.role, Role::kNode);
}

TEST(ParseIdentityUriTest, AnythingElse_InvalidArgument) {
  for (const std::string& uri :
       {std::string(), std::string("koinon://"), std::string("koinon://a/b"),
        std::string("koinon://a/worker/b/c"), std::string("koinon://a/worker/"),
        std::string("koinon:///worker/b"), std::string("koinon://a/root/b"),
        std::string("koinon://a/anonymous/b"), std::string("http://a/worker/b"),
        std::string("koinon://A/worker/b"),
        std::string("koinon://a/worker/b\0", 20),
        std::string("koinon://a/worker/..%2f")}) {
    EXPECT_THAT(ParseIdentityUri(uri), StatusIs(kInvalid)) << uri;
  }
}

TEST(RoleNameTest, EveryRole_ReadsBack) {
  for (const Role role :
       {Role::kWorker, Role::kClient, Role::kServer, Role::kNode}) {
    ASSERT_OK_AND_ASSIGN(const PeerIdentity peer,
                         ParseIdentityUri("koinon://north/" +
                                          std::string(RoleName(role)) + "/x"));
    EXPECT_EQ(peer.role, role);
  }
  EXPECT_EQ(RoleName(Role::kAnonymous), "anonymous");
}

TEST(OwnerOfTest, ServersAreOneOwner_OthersAreTheirNames) {
  EXPECT_EQ(OwnerOf({.role = Role::kServer, .name = "main"}), "server");
  EXPECT_EQ(OwnerOf({.role = Role::kWorker, .name = "w1"}), "worker/w1");
  EXPECT_EQ(OwnerOf({.role = Role::kClient, .name = "ann"}), "client/ann");
  EXPECT_EQ(OwnerOf({.role = Role::kNode, .name = "d1"}), "node/d1");
  EXPECT_EQ(OwnerOf({}), "");
}

class IdentityFromUrisTest : public testing::Test {
 protected:
  const NodeIdentity node_ = SelfMadeIdentity(
      SigningKey::FromSeed(std::string(32, 's'))->public_key(), "lab");
  const std::string node_uri_ = NodeIdentityUri(node_);
};

TEST_F(IdentityFromUrisTest, BothUrisAmongOthers_AreThatNode) {
  ASSERT_OK_AND_ASSIGN(const PeerIdentity peer,
                       IdentityFromUris({"https://example", node_uri_,
                                         "koinon://north/worker/w1"}));
  EXPECT_EQ(peer.role, Role::kWorker);
  EXPECT_EQ(peer.name, "w1");
  EXPECT_EQ(peer.node, node_);
}

TEST_F(IdentityFromUrisTest, WithoutANode_IsNone) {
  ASSERT_OK_AND_ASSIGN(const PeerIdentity peer,
                       IdentityFromUris({"koinon://north/worker/w1"}));
  EXPECT_EQ(peer.node, std::nullopt);
}

TEST_F(IdentityFromUrisTest, NoPeer_NotFound) {
  EXPECT_THAT(IdentityFromUris({}),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("found 0")));
  EXPECT_THAT(IdentityFromUris({"https://example", node_uri_}),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("found 0")));
}

TEST_F(IdentityFromUrisTest, TwoOfAKindOrMalformed_InvalidArgument) {
  EXPECT_THAT(IdentityFromUris(
                  {"koinon://a/worker/x", "koinon://a/worker/y", node_uri_}),
              StatusIs(kInvalid, HasSubstr("koinon:// URI, found 2")));
  EXPECT_THAT(IdentityFromUris({"koinon://a/worker/x", node_uri_, node_uri_}),
              StatusIs(kInvalid, HasSubstr("koinon-node: URI, found 2")));
  EXPECT_THAT(IdentityFromUris({"koinon://a/king/x"}),
              StatusIs(kInvalid, HasSubstr("koinon://a/king/x")));
  EXPECT_THAT(IdentityFromUris({"koinon://a/worker/x", "koinon-node:2:a:b:c"}),
              StatusIs(kInvalid, HasSubstr("koinon-node:2:a:b:c")));
}

}  // namespace
}  // namespace koinon
