#include "base/certs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ctime>
#include <set>
#include <string>

#include "base/openssl_ptr.h"
#include "base/signing.h"
#include "base/status_matchers.h"
#include "base/x509_identity.h"

namespace koinon {
namespace {

using testing::AllOf;
using testing::HasSubstr;

using Role = PeerIdentity::Role;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

X509Ptr Parse(const CertificateAndKey& pem) {
  return ReadCertificate(ReadOnlyBio(pem.certificate_pem).get());
}

// As OpenSSL prints it, for looking at.
std::string Describe(const CertificateAndKey& pem) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  X509_print(bio.get(), Parse(pem).get());
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return std::string(data, static_cast<size_t>(size));
}

std::string SerialOf(const CertificateAndKey& pem) {
  const X509Ptr certificate = Parse(pem);
  const BignumPtr serial(
      ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate.get()), nullptr));
  char* const hex = BN_bn2hex(serial.get());
  const std::string text = hex;
  OPENSSL_free(hex);
  return text;
}

class CertsTest : public testing::Test {
 protected:
  CertificateAndKey ca_ = *MakeCertificateAuthority("north", 100, kNow);
};

TEST_F(CertsTest, Authority_MaySignAndNothingElse) {
  EXPECT_THAT(
      Describe(ca_),
      AllOf(HasSubstr("O=north"), HasSubstr("CA:TRUE, pathlen:0"),
            HasSubstr("Certificate Sign, CRL Sign"),
            HasSubstr("ecdsa-with-SHA256"), HasSubstr("NIST CURVE: P-256"),
            HasSubstr("Subject Key Identifier"),
            HasSubstr("Authority Key Identifier")));
}

TEST_F(CertsTest, Issue_Server_HasUriAndHosts) {
  ASSERT_OK_AND_ASSIGN(
      const CertificateAndKey server,
      IssueCertificate(ca_,
                       {.role = Role::kServer,
                        .name = "main",
                        .dns_names = {"koinon.example", "localhost"},
                        .ip_addresses = {"127.0.0.1", "::1"}},
                       30, kNow));
  EXPECT_THAT(
      Describe(server),
      AllOf(HasSubstr("URI:koinon://north/server/main, URI:koinon-node:1:"),
            HasSubstr("DNS:node.koinon.internal, DNS:koinon.example, "
                      "DNS:localhost, IP Address:127.0.0.1, "
                      "IP Address:0:0:0:0:0:0:0:1"),
            HasSubstr("TLS Web Server Authentication, "
                      "TLS Web Client Authentication"),
            HasSubstr("CA:FALSE"), HasSubstr("Digital Signature")));
}

TEST_F(CertsTest, Issue_WorkerAndNode_AreGoodForBothEndsUnderTheNodesName) {
  for (const Role role : {Role::kWorker, Role::kNode}) {
    ASSERT_OK_AND_ASSIGN(
        const CertificateAndKey made,
        IssueCertificate(ca_, {.role = role, .name = "n1"}, 30, kNow));
    const std::string who = std::string(RoleName(role));
    EXPECT_THAT(Describe(made),
                AllOf(HasSubstr("URI:koinon://north/" + who + "/n1"),
                      HasSubstr("DNS:node.koinon.internal\n"),
                      HasSubstr("TLS Web Server Authentication, "
                                "TLS Web Client Authentication"),
                      HasSubstr("CN=" + who + "\\/n1")));
  }
}

TEST_F(CertsTest, Issue_Client_IsGoodForClientsOnly) {
  ASSERT_OK_AND_ASSIGN(
      const CertificateAndKey client,
      IssueCertificate(ca_, {.role = Role::kClient, .name = "ann"}, 30, kNow));
  const std::string text = Describe(client);
  EXPECT_THAT(text, AllOf(HasSubstr("URI:koinon://north/client/ann"),
                          HasSubstr("TLS Web Client Authentication")));
  EXPECT_THAT(text, testing::Not(HasSubstr("Server Authentication")));
}

TEST_F(CertsTest, Issue_EveryRole_CarriesANodeOfItsOwn) {
  std::set<std::string> nonces;
  std::set<PublicKey> keys;
  for (const Role role :
       {Role::kServer, Role::kWorker, Role::kClient, Role::kNode}) {
    CertificateSubject subject = {.role = role, .name = "n", .site = "lab"};
    if (role == Role::kServer) subject.dns_names = {"localhost"};
    ASSERT_OK_AND_ASSIGN(const CertificateAndKey made,
                         IssueCertificate(ca_, subject, 30, kNow));
    ASSERT_OK_AND_ASSIGN(const PeerIdentity peer,
                         IdentityOfX509(Parse(made).get()));
    EXPECT_EQ(peer.role, role);
    EXPECT_EQ(peer.federation, "north");
    ASSERT_TRUE(peer.node.has_value());
    EXPECT_EQ(peer.node->site, "lab");
    ASSERT_OK_AND_ASSIGN(const SigningKey key,
                         SigningKey::FromPem(made.key_pem));
    EXPECT_EQ(peer.node->key, key.public_key());
    nonces.insert(peer.node->nonce);
    keys.insert(peer.node->key);
  }
  EXPECT_EQ(nonces.size(), 4u);
  EXPECT_EQ(keys.size(), 4u);
}

TEST_F(CertsTest, Issue_KeyFile_HasTheCertificatesKeyFirst) {
  ASSERT_OK_AND_ASSIGN(
      const CertificateAndKey worker,
      IssueCertificate(ca_, {.role = Role::kWorker, .name = "w1"}, 30, kNow));
  const EvpPkeyPtr first = ReadKey(ReadOnlyBio(worker.key_pem).get());
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(EVP_PKEY_id(first.get()), EVP_PKEY_EC);
  EXPECT_EQ(X509_check_private_key(Parse(worker).get(), first.get()), 1);
  EXPECT_THAT(SigningKey::FromPem(ca_.key_pem),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(CertsTest, Issue_Validity_IsFiveMinutesBackAndTheDays) {
  ASSERT_OK_AND_ASSIGN(
      const CertificateAndKey client,
      IssueCertificate(ca_, {.role = Role::kClient, .name = "c"}, 2, kNow));
  const X509Ptr certificate = Parse(client);
  std::tm begin = {};
  std::tm end = {};
  ASSERT_EQ(ASN1_TIME_to_tm(X509_get0_notBefore(certificate.get()), &begin), 1);
  ASSERT_EQ(ASN1_TIME_to_tm(X509_get0_notAfter(certificate.get()), &end), 1);
  EXPECT_EQ(absl::FromTM(begin, absl::UTCTimeZone()), kNow - absl::Minutes(5));
  EXPECT_EQ(absl::FromTM(end, absl::UTCTimeZone()), kNow + absl::Hours(48));
}

TEST_F(CertsTest, Serials_AreOf128BitsAndDiffer) {
  std::set<std::string> serials = {SerialOf(ca_)};
  for (int i = 0; i < 20; ++i) {
    ASSERT_OK_AND_ASSIGN(
        const CertificateAndKey client,
        IssueCertificate(ca_, {.role = Role::kClient, .name = "c"}, 1, kNow));
    serials.insert(SerialOf(client));
  }
  EXPECT_EQ(serials.size(), 21u);
  for (const std::string& serial : serials) EXPECT_EQ(serial.size(), 32u);
}

TEST_F(CertsTest, Issue_BadSubjects_InvalidArgument) {
  const struct {
    CertificateSubject subject;
    std::string message;
  } cases[] = {
      {{.role = Role::kWorker, .name = "W 1"}, "name"},
      {{.role = Role::kAnonymous, .name = "w"},
       "server, a worker, a client or a node"},
      {{.role = Role::kServer, .name = "s"}, "needs a DNS name"},
      {{.role = Role::kWorker, .name = "w", .dns_names = {"a"}}, "cannot have"},
      {{.role = Role::kServer, .name = "s", .dns_names = {"a,DNS:b"}},
       "not a DNS name"},
      {{.role = Role::kServer, .name = "s", .dns_names = {""}},
       "not a DNS name"},
      {{.role = Role::kServer, .name = "s", .dns_names = {kNodeDnsName}},
       "no server can be called so"},
      {{.role = Role::kServer,
        .name = "s",
        .dns_names = {"a", "Node.Koinon.Internal."}},
       "no server can be called so"},
      {{.role = Role::kNode, .name = "n", .dns_names = {"a"}}, "cannot have"},
      {{.role = Role::kWorker, .name = "w", .site = "North Wing"}, "site"},
      {{.role = Role::kServer, .name = "s", .ip_addresses = {"1.2.3"}},
       "not an IP address"},
  };
  for (const auto& c : cases) {
    EXPECT_THAT(IssueCertificate(ca_, c.subject, 1, kNow),
                StatusIs(kInvalid, HasSubstr(c.message)));
  }
}

TEST_F(CertsTest, Issue_BadDays_InvalidArgument) {
  const CertificateSubject subject = {.role = Role::kClient, .name = "c"};
  EXPECT_THAT(IssueCertificate(ca_, subject, 0, kNow),
              StatusIs(kInvalid, HasSubstr("found 0")));
  EXPECT_THAT(IssueCertificate(ca_, subject, 101, kNow),
              StatusIs(kInvalid, HasSubstr("ends on 2027-04-25")));
  EXPECT_OK(IssueCertificate(ca_, subject, 99, kNow));
  EXPECT_THAT(MakeCertificateAuthority("north", 1'000'000, kNow),
              StatusIs(kInvalid, HasSubstr("1000000")));
}

TEST_F(CertsTest, Issue_NotAnAuthority_InvalidArgument) {
  const CertificateSubject subject = {.role = Role::kClient, .name = "c"};
  ASSERT_OK_AND_ASSIGN(const CertificateAndKey client,
                       IssueCertificate(ca_, subject, 1, kNow));
  EXPECT_THAT(IssueCertificate(client, subject, 1, kNow),
              StatusIs(kInvalid, HasSubstr("may sign others")));
  ASSERT_OK_AND_ASSIGN(const CertificateAndKey other,
                       MakeCertificateAuthority("north", 100, kNow));
  EXPECT_THAT(
      IssueCertificate({ca_.certificate_pem, other.key_pem}, subject, 1, kNow),
      StatusIs(kInvalid, HasSubstr("not its own")));
  EXPECT_THAT(IssueCertificate({"x", "y"}, subject, 1, kNow),
              StatusIs(kInvalid, HasSubstr("PEM")));
}

TEST(MakeCertificateAuthorityTest, BadFederation_InvalidArgument) {
  EXPECT_THAT(MakeCertificateAuthority("North!", 1, kNow),
              StatusIs(kInvalid, HasSubstr("federation")));
}

}  // namespace
}  // namespace koinon
