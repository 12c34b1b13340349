#include "worker/models/identity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/certs.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"
#include "worker/testing/foreign_certificate.h"

namespace koinon::worker {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsNull;
using ::testing::NotNull;

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);
const TlsFiles kFiles = {"/w1.pem", "/w1.key", "/ca.pem"};

class LoadWorkerIdentityTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_OK(env_.MakeDirs("/state")); }

  void Write(const CertificateAndKey& own, const std::string& ca) {
    ASSERT_OK(
        WriteFileAtomically(&env_, kFiles.certificate, own.certificate_pem));
    ASSERT_OK(WritePrivateFileAtomically(&env_, kFiles.key, own.key_pem));
    ASSERT_OK(WriteFileAtomically(&env_, kFiles.ca, ca));
  }
  void WriteIssued(const std::string& site) {
    const auto ca = *MakeCertificateAuthority("north", 100, kNow);
    CertificateSubject subject;
    subject.name = "w1";
    subject.site = site;
    Write(*IssueCertificate(ca, subject, 30, kNow), ca.certificate_pem);
  }
  void WriteForeign() {
    const auto own = MakeForeignCertificate("koinon://north/worker/w1", kNow);
    Write(own, own.certificate_pem);
  }
  absl::StatusOr<WorkerIdentity> Load(const TlsFiles& tls,
                                      const PeeringSpec& spec = {}) {
    return LoadWorkerIdentity(&env_, "w1", "/state", tls, spec, kNow);
  }

  MemoryEnv env_;
};

TEST_F(LoadWorkerIdentityTest, Plaintext_IsTheSameNodeAgain) {
  PeeringSpec spec;
  spec.site = "lab";
  ASSERT_OK_AND_ASSIGN(const WorkerIdentity first, Load({}, spec));
  ASSERT_OK_AND_ASSIGN(const WorkerIdentity again, Load({}, spec));
  EXPECT_EQ(first.local.id, again.local.id);
  EXPECT_EQ(first.local.owner, "worker/w1");
  EXPECT_EQ(first.local.identity.site, "lab");
  EXPECT_EQ(first.local.federation, "koinon");
  EXPECT_TRUE(first.has_node);
  EXPECT_THAT(first.authority, IsNull());
}

TEST_F(LoadWorkerIdentityTest, Plaintext_FederationIsAsSaid) {
  PeeringSpec spec;
  spec.federation = "north";
  ASSERT_OK_AND_ASSIGN(const WorkerIdentity identity, Load({}, spec));
  EXPECT_EQ(identity.local.federation, "north");
}

TEST_F(LoadWorkerIdentityTest, Certificate_SaysWhoAndWhere) {
  WriteIssued("lab");
  ASSERT_OK_AND_ASSIGN(const WorkerIdentity identity, Load(kFiles));
  EXPECT_EQ(identity.local.federation, "north");
  EXPECT_EQ(identity.local.owner, "worker/w1");
  EXPECT_EQ(identity.local.identity.site, "lab");
  EXPECT_TRUE(identity.has_node);
  ASSERT_THAT(identity.authority, NotNull());
  EXPECT_EQ(identity.authority->federation(), "north");
  EXPECT_FALSE(env_.Exists("/state/node.key"));
}

TEST_F(LoadWorkerIdentityTest, FlagsAgainstTheCertificate_AreRefused) {
  WriteIssued("lab");
  PeeringSpec spec;
  spec.site = "lab";
  spec.federation = "north";
  EXPECT_OK(Load(kFiles, spec));
  spec.site = "ward";
  EXPECT_THAT(Load(kFiles, spec),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("--site"), HasSubstr("\"lab\""),
                             HasSubstr("\"ward\""))));
  spec.site = "";
  spec.federation = "south";
  EXPECT_THAT(Load(kFiles, spec), StatusIs(absl::StatusCode::kInvalidArgument,
                                           HasSubstr("--federation")));
}

TEST_F(LoadWorkerIdentityTest, ForeignCertificate_TakesNoPart) {
  WriteForeign();
  ASSERT_OK_AND_ASSIGN(const WorkerIdentity identity, Load(kFiles));
  EXPECT_FALSE(identity.has_node);
  EXPECT_EQ(identity.local.federation, "north");
  EXPECT_THAT(identity.authority, NotNull());
}

TEST_F(LoadWorkerIdentityTest, ForeignCertificateThatIsToServe_IsRefused) {
  WriteForeign();
  PeeringSpec spec;
  spec.listen = "127.0.0.1:0";
  EXPECT_THAT(Load(kFiles, spec), StatusIs(absl::StatusCode::kInvalidArgument,
                                           AllOf(HasSubstr("--peer-listen"),
                                                 HasSubstr("koinon certs"))));
}

TEST_F(LoadWorkerIdentityTest, MissingCertificate_IsNamed) {
  EXPECT_THAT(Load(kFiles).status().message(), HasSubstr("/w1.pem"));
}

}  // namespace
}  // namespace koinon::worker
