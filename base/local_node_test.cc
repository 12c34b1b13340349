#include "base/local_node.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/certs.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"
#include "base/trust.h"

namespace koinon {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

using Role = PeerIdentity::Role;

constexpr auto kPrecondition = absl::StatusCode::kFailedPrecondition;
const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

class LoadLocalNodeTest : public testing::Test {
 protected:
  LoadLocalNodeTest() { Write(worker_); }

  CertificateAndKey Issue(Role role) {
    CertificateSubject subject = {.role = role, .name = "w1", .site = "lab"};
    if (role == Role::kServer) subject.dns_names = {"localhost"};
    return *IssueCertificate(ca_, subject, 30, kNow);
  }
  void Write(const CertificateAndKey& own) {
    EXPECT_OK(
        WriteFileAtomically(&env_, files_.certificate, own.certificate_pem));
    EXPECT_OK(WritePrivateFileAtomically(&env_, files_.key, own.key_pem));
    EXPECT_OK(WriteFileAtomically(&env_, files_.ca, ca_.certificate_pem));
  }
  absl::StatusOr<LocalNode> Load() {
    return LoadLocalNode(&env_, files_, kNow);
  }
  // The first of the two keys in a file, or the second.
  static std::string KeyNumber(int which, const std::string& pem) {
    const size_t second = pem.find("-----BEGIN", 1);
    return which == 1 ? pem.substr(0, second) : pem.substr(second);
  }

  MemoryEnv env_;
  const CertificateAndKey ca_ = *MakeCertificateAuthority("north", 100, kNow);
  const CertificateAndKey worker_ = Issue(Role::kWorker);
  const TlsFiles files_ = {"/w1.pem", "/w1.key", "/ca.pem"};
};

TEST_F(LoadLocalNodeTest, FilesOfKoinonCerts_AreThatNode) {
  ASSERT_OK_AND_ASSIGN(const LocalNode node, Load());
  EXPECT_EQ(node.key.public_key(), node.identity.key);
  EXPECT_EQ(node.identity.site, "lab");
  EXPECT_EQ(node.federation, "north");
  EXPECT_EQ(node.owner, "worker/w1");
  EXPECT_EQ(node.id, NodeIdOf("north", node.identity));
}

TEST_F(LoadLocalNodeTest, CertificateAndSignature_StandBeforeTheFederation) {
  ASSERT_OK_AND_ASSIGN(const auto trust,
                       FederationTrust::Create("north", ca_.certificate_pem));
  for (const Role role :
       {Role::kServer, Role::kWorker, Role::kClient, Role::kNode}) {
    Write(Issue(role));
    ASSERT_OK_AND_ASSIGN(const LocalNode node, Load());
    ASSERT_OK_AND_ASSIGN(const PeerIdentity peer,
                         trust->Verify(node.certificate_der, kNow));
    EXPECT_EQ(peer.node, node.identity);
    EXPECT_EQ(OwnerOf(peer), node.owner);
    EXPECT_TRUE(
        VerifySignature(peer.node->key, "c", "m", node.key.Sign("c", "m")));
  }
}

TEST_F(LoadLocalNodeTest, OfAChain_TheOwnCertificateIsTaken) {
  ASSERT_OK_AND_ASSIGN(const LocalNode alone, Load());
  ASSERT_OK(WriteFileAtomically(&env_, files_.certificate,
                                worker_.certificate_pem + ca_.certificate_pem));
  ASSERT_OK_AND_ASSIGN(const LocalNode node, Load());
  EXPECT_EQ(node.certificate_der, alone.certificate_der);
}

TEST_F(LoadLocalNodeTest, KeyFileWithoutTheNodesKey_FailedPrecondition) {
  ASSERT_OK(WritePrivateFileAtomically(&env_, files_.key,
                                       KeyNumber(1, worker_.key_pem)));
  const absl::Status status = Load().status();
  EXPECT_THAT(status, StatusIs(kPrecondition, AllOf(StartsWith(files_.key),
                                                    HasSubstr("koinon certs"),
                                                    HasSubstr("Ed25519"))));
  EXPECT_FALSE(NotForNodes(status));
}

TEST_F(LoadLocalNodeTest, NodesKeyOfAnother_FailedPreconditionNamesBoth) {
  ASSERT_OK(WritePrivateFileAtomically(
      &env_, files_.key,
      KeyNumber(1, worker_.key_pem) +
          KeyNumber(2, Issue(Role::kWorker).key_pem)));
  const absl::Status status = Load().status();
  EXPECT_THAT(status,
              StatusIs(kPrecondition, AllOf(StartsWith(files_.key),
                                            HasSubstr(files_.certificate))));
  EXPECT_FALSE(NotForNodes(status));
}

// As other authorities make them, and ours makes its own.
TEST_F(LoadLocalNodeTest, CertificateWithoutAnIdentity_IsNotForNodes) {
  Write(ca_);
  const absl::Status status = Load().status();
  EXPECT_THAT(status,
              StatusIs(kPrecondition, AllOf(StartsWith(files_.certificate),
                                            HasSubstr("koinon certs"))));
  EXPECT_TRUE(NotForNodes(status));
}

TEST_F(LoadLocalNodeTest, BadTlsFiles_AreAsForTls) {
  EXPECT_THAT(LoadLocalNode(&env_, files_, kNow + absl::Hours(24 * 31)),
              StatusIs(kPrecondition, HasSubstr("expired")));
  ASSERT_OK(env_.Remove(files_.key));
  const absl::Status status = Load().status();
  EXPECT_THAT(status, StatusIs(kPrecondition, StartsWith(files_.key)));
  EXPECT_FALSE(NotForNodes(status));
  EXPECT_FALSE(NotForNodes(absl::OkStatus()));
}

class LoadOrMakeLocalNodeTest : public testing::Test {
 protected:
  absl::StatusOr<LocalNode> Load(const std::string& site = "lab") {
    return LoadOrMakeLocalNode(&env_, "/state/node.key", "north", "worker/w1",
                               site);
  }
  MemoryEnv env_;
};

TEST_F(LoadOrMakeLocalNodeTest, FirstStart_MakesAPrivateKey) {
  ASSERT_OK_AND_ASSIGN(const LocalNode node, Load());
  EXPECT_THAT(env_.IsPrivate("/state/node.key"), IsOkAndHolds(true));
  EXPECT_EQ(node.federation, "north");
  EXPECT_EQ(node.owner, "worker/w1");
  EXPECT_EQ(node.identity.site, "lab");
  EXPECT_EQ(node.identity.key, node.key.public_key());
  EXPECT_EQ(node.id, NodeIdOf("north", node.identity));
  EXPECT_THAT(node.certificate_der, IsEmpty());
}

TEST_F(LoadOrMakeLocalNodeTest, NextStart_IsTheSameNode) {
  ASSERT_OK_AND_ASSIGN(const LocalNode first, Load());
  ASSERT_OK_AND_ASSIGN(const LocalNode second, Load());
  EXPECT_EQ(second.id, first.id);
  EXPECT_EQ(second.identity, first.identity);
  ASSERT_OK(env_.Remove("/state/node.key"));
  ASSERT_OK_AND_ASSIGN(const LocalNode third, Load());
  EXPECT_NE(third.id, first.id);
}

TEST_F(LoadOrMakeLocalNodeTest, FileWithoutAKey_DataLoss) {
  ASSERT_OK(env_.MakeDirs("/state"));
  ASSERT_OK(WritePrivateFileAtomically(&env_, "/state/node.key", "rubbish"));
  EXPECT_THAT(Load(), StatusIs(absl::StatusCode::kDataLoss,
                               StartsWith("/state/node.key")));
  EXPECT_THAT(ReadFile(&env_, "/state/node.key", 100), IsOkAndHolds("rubbish"));
}

TEST_F(LoadOrMakeLocalNodeTest, KeyReadableByOthers_FailedPrecondition) {
  ASSERT_OK(env_.MakeDirs("/state"));
  ASSERT_OK(WriteFileAtomically(&env_, "/state/node.key",
                                SigningKey::Generate().ToPem()));
  EXPECT_THAT(Load(), StatusIs(kPrecondition, HasSubstr("chmod 600")));
}

TEST_F(LoadOrMakeLocalNodeTest, FullDisk_IsAnErrorAndNoKey) {
  ASSERT_OK(env_.MakeDirs("/state"));
  FaultInjectingEnv faulty(&env_);
  faulty.FillDisk();
  EXPECT_THAT(
      LoadOrMakeLocalNode(&faulty, "/state/node.key", "north", "worker/w1", ""),
      StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_FALSE(env_.Exists("/state/node.key"));
}

TEST_F(LoadOrMakeLocalNodeTest, BadSite_InvalidArgument) {
  EXPECT_THAT(Load("North Wing"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("site")));
}

}  // namespace
}  // namespace koinon
