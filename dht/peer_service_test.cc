#include "dht/peer_service.h"

#include <gtest/gtest.h>

#include <string>

namespace koinon::dht {
namespace {

using Role = PeerIdentity::Role;

PeerIdentity Member(const std::string& name) {
  return {.role = Role::kWorker, .federation = "north", .name = name};
}

TEST(CallerOfTest, Node_IsCountedAsItself) {
  PeerIdentity who = Member("w1");
  who.node.emplace();
  who.node->nonce = std::string(NodeIdentity::kNonceBytes, 'n');
  who.node->site = "ward";
  const Seeder::Caller caller = CallerOf(who);
  EXPECT_EQ(caller.node, NodeIdOf("north", *who.node));
  EXPECT_EQ(caller.member, caller.node);
  EXPECT_EQ(caller.site, "ward");
}

// Of an authority that knows no nodes.
TEST(CallerOfTest, CertificateWithoutNode_IsCountedByItsName) {
  const Seeder::Caller caller = CallerOf(Member("w1"));
  EXPECT_TRUE(caller.node.IsZero());
  EXPECT_FALSE(caller.member.IsZero());
  EXPECT_EQ(caller.member, CallerOf(Member("w1")).member);
  EXPECT_NE(caller.member, CallerOf(Member("w2")).member);
}

TEST(CallerOfTest, Plaintext_IsNobody) {
  const Seeder::Caller caller = CallerOf(PeerIdentity());
  EXPECT_TRUE(caller.member.IsZero());
  EXPECT_TRUE(caller.node.IsZero());
}

}  // namespace
}  // namespace koinon::dht
