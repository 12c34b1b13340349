#include "dht/peer_policy.h"

#include <gtest/gtest.h>

#include "base/node_identity.h"
#include "base/status_matchers.h"

namespace koinon::dht {
namespace {

using ::testing::HasSubstr;
using Role = PeerIdentity::Role;

constexpr auto kDenied = absl::StatusCode::kPermissionDenied;
constexpr auto kUnauthenticated = absl::StatusCode::kUnauthenticated;

NodeIdentity Node(char nonce, const std::string& site) {
  NodeIdentity node;
  node.nonce = std::string(NodeIdentity::kNonceBytes, nonce);
  node.site = site;
  return node;
}

PeerIdentity Member(Role role, std::optional<NodeIdentity> node,
                    const std::string& federation = "north") {
  PeerIdentity who;
  who.role = role;
  who.federation = federation;
  who.name = "somebody";
  who.node = std::move(node);
  return who;
}

Contact ContactOf(const NodeIdentity& node, const std::string& address) {
  return {NodeIdOf("north", node), address, node.site};
}

PeerPolicy::Options At(const std::string& site) {
  PeerPolicy::Options options;
  options.federation = "north";
  options.site = site;
  options.coordinator = "fl.example:7070";
  return options;
}

TEST(PeerPolicyTest, Strangers_AreRefusedEverything) {
  const PeerPolicy policy(At("ward"));
  const NodeIdentity node = Node('a', "ward");
  for (const auto& [who, code] :
       std::vector<std::pair<PeerIdentity, absl::StatusCode>>{
           {PeerIdentity(), kUnauthenticated},
           {Member(Role::kWorker, node, "south"), kDenied}}) {
    EXPECT_THAT(policy.CheckMember(who), StatusIs(code));
    EXPECT_THAT(policy.CheckFetcher(who), StatusIs(code));
    EXPECT_THAT(policy.CheckAsker(who, ContactToProto(ContactOf(node, ""))),
                StatusIs(code));
    EXPECT_THAT(policy.CheckIs(ContactOf(node, "h:1"), who),
                StatusIs(kUnauthenticated));
  }
}

TEST(PeerPolicyTest, Plaintext_TakesWhatIsClaimed) {
  PeerPolicy::Options options = At("ward");
  options.require_tls = false;
  const PeerPolicy policy(options);
  const Contact claimed = ContactOf(Node('a', "far"), "10.0.0.1:70");
  EXPECT_THAT(policy.CheckAsker(PeerIdentity(), ContactToProto(claimed)),
              IsOkAndHolds(claimed));
  EXPECT_OK(policy.CheckFetcher(PeerIdentity()));
  EXPECT_OK(policy.CheckIs(claimed, PeerIdentity()));
}

TEST(PeerPolicyTest, Asker_GetsItsCertificatesIdAndItsOwnAddress) {
  const PeerPolicy policy(At("ward"));
  const NodeIdentity node = Node('a', "far");
  const Contact contact = ContactOf(node, "10.0.0.1:70");
  EXPECT_THAT(
      policy.CheckAsker(Member(Role::kWorker, node), ContactToProto(contact)),
      IsOkAndHolds(contact));
}

TEST(PeerPolicyTest, Asker_ThatClaimsAnothersIdOrSite_IsRefused) {
  const PeerPolicy policy(At("ward"));
  const PeerIdentity who = Member(Role::kWorker, Node('a', "ward"));
  EXPECT_THAT(policy.CheckAsker(
                  who, ContactToProto(ContactOf(Node('b', "ward"), "h:1"))),
              StatusIs(kDenied, HasSubstr("the certificate of worker")));
  Contact elsewhere = ContactOf(Node('a', "ward"), "h:1");
  elsewhere.site = "far";
  EXPECT_THAT(policy.CheckAsker(who, ContactToProto(elsewhere)),
              StatusIs(kDenied, HasSubstr("site 'far'")));
}

TEST(PeerPolicyTest, Asker_WithMalformedClaim_IsInvalid) {
  const PeerPolicy policy(At("ward"));
  v1::Contact claimed = ContactToProto(ContactOf(Node('a', "ward"), "h:1"));
  claimed.set_node_id("short");
  EXPECT_THAT(
      policy.CheckAsker(Member(Role::kWorker, Node('a', "ward")), claimed),
      StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(PeerPolicyTest, MemberWithoutNode_MayNotAsk_AndFetchesFromTheOriginOnly) {
  const PeerIdentity who = Member(Role::kWorker, std::nullopt);
  const v1::Contact claimed =
      ContactToProto(ContactOf(Node('a', "ward"), "h:1"));
  const PeerPolicy policy(At("ward"));
  EXPECT_THAT(policy.CheckAsker(who, claimed),
              StatusIs(kDenied, HasSubstr("koinon certs")));
  EXPECT_THAT(policy.CheckFetcher(who), StatusIs(kDenied));
  PeerPolicy::Options origin = At("");
  origin.is_origin = true;
  EXPECT_OK(PeerPolicy(origin).CheckFetcher(who));
}

TEST(PeerPolicyTest, ModelBytes_StayInTheirSite) {
  const PeerPolicy policy(At("ward"));
  for (const Role role : {Role::kWorker, Role::kNode}) {
    EXPECT_OK(policy.CheckFetcher(Member(role, Node('a', "ward"))));
    EXPECT_THAT(policy.CheckFetcher(Member(role, Node('a', "far"))),
                StatusIs(kDenied, HasSubstr("site 'far'")));
    EXPECT_THAT(policy.CheckFetcher(Member(role, Node('a', ""))),
                StatusIs(kDenied, HasSubstr("no site")));
  }
  EXPECT_OK(policy.CheckFetcher(Member(Role::kClient, Node('a', "far"))));
  EXPECT_OK(policy.CheckFetcher(Member(Role::kServer, std::nullopt)));
  EXPECT_OK(policy.MayFetchFrom(ContactOf(Node('a', "ward"), "h:1")));
  EXPECT_THAT(policy.MayFetchFrom(ContactOf(Node('a', "far"), "h:1")),
              StatusIs(kDenied, HasSubstr("site 'far'")));
  EXPECT_OK(policy.MayFetchFrom(ContactOf(Node('a', ""), "fl.example:7070")));
}

TEST(PeerPolicyTest, CrossSite_LetsThemGoAnywhere) {
  PeerPolicy::Options options = At("ward");
  options.cross_site = true;
  const PeerPolicy policy(options);
  EXPECT_OK(policy.CheckFetcher(Member(Role::kWorker, Node('a', "far"))));
  EXPECT_OK(policy.MayFetchFrom(ContactOf(Node('a', "far"), "h:1")));
}

TEST(PeerPolicyTest, LeechOnly_ServesNobody) {
  PeerPolicy::Options options = At("ward");
  options.leech_only = true;
  EXPECT_THAT(PeerPolicy(options).CheckFetcher(
                  Member(Role::kWorker, Node('a', "ward"))),
              StatusIs(kDenied));
}

TEST(PeerPolicyTest, CheckIs_TellsAnotherNodeAtTheAddress) {
  const PeerPolicy policy(At("ward"));
  const Contact meant = ContactOf(Node('a', "ward"), "h:1");
  EXPECT_OK(policy.CheckIs(meant, Member(Role::kWorker, Node('a', "ward"))));
  EXPECT_THAT(policy.CheckIs(meant, Member(Role::kWorker, Node('b', "ward"))),
              StatusIs(kUnauthenticated, HasSubstr("expected node")));
  EXPECT_THAT(policy.CheckIs(meant, Member(Role::kWorker, std::nullopt)),
              StatusIs(kUnauthenticated));
  Contact anybody = meant;
  anybody.id = Key();
  EXPECT_OK(policy.CheckIs(anybody, Member(Role::kNode, Node('b', "far"))));
}

TEST(PeerPolicyTest, CheckIs_TheCoordinatorNeedBeNoNode_ButAServer) {
  const PeerPolicy policy(At("ward"));
  const Contact coordinator{Key(), "fl.example:7070", ""};
  EXPECT_OK(policy.CheckIs(coordinator, Member(Role::kServer, std::nullopt)));
  EXPECT_THAT(policy.CheckIs(coordinator, Member(Role::kWorker, std::nullopt)),
              StatusIs(kUnauthenticated));
  // One that is a node has to be the one that was meant.
  Contact meant = ContactOf(Node('a', ""), "fl.example:7070");
  EXPECT_OK(policy.CheckIs(meant, Member(Role::kServer, Node('a', ""))));
  EXPECT_THAT(policy.CheckIs(meant, Member(Role::kServer, Node('b', ""))),
              StatusIs(kUnauthenticated));
}

TEST(PeerPolicyTest, CheckSource_GoesByTheSiteInTheCertificate) {
  const PeerPolicy policy(At("ward"));
  const Contact said = ContactOf(Node('a', "ward"), "h:1");
  EXPECT_OK(policy.CheckSource(said, Member(Role::kWorker, Node('a', "ward"))));
  EXPECT_THAT(
      policy.CheckSource(said, Member(Role::kWorker, Node('b', "ward"))),
      StatusIs(kUnauthenticated));
  // Somebody has said that it is of this site.
  const PeerIdentity far = Member(Role::kWorker, Node('a', "far"));
  Contact meant = said;
  meant.id = NodeIdOf("north", *far.node);
  EXPECT_OK(policy.MayFetchFrom(meant));
  EXPECT_THAT(policy.CheckSource(meant, far),
              StatusIs(kDenied, HasSubstr("site 'far'")));
  const Contact coordinator{Key(), "fl.example:7070", ""};
  EXPECT_OK(
      policy.CheckSource(coordinator, Member(Role::kServer, std::nullopt)));
  EXPECT_OK(
      policy.CheckSource(coordinator, Member(Role::kServer, Node('c', ""))));
}

}  // namespace
}  // namespace koinon::dht
