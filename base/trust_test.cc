#include "base/trust.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/certs.h"
#include "base/openssl_ptr.h"
#include "base/status_matchers.h"

namespace koinon {
namespace {

using ::testing::HasSubstr;

using Role = PeerIdentity::Role;

constexpr auto kUnauthenticated = absl::StatusCode::kUnauthenticated;
const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

std::string ToDer(const CertificateAndKey& pem) {
  const X509Ptr certificate =
      ReadCertificate(ReadOnlyBio(pem.certificate_pem).get());
  std::string der(static_cast<size_t>(i2d_X509(certificate.get(), nullptr)),
                  '\0');
  auto* data = reinterpret_cast<unsigned char*>(der.data());
  i2d_X509(certificate.get(), &data);
  return der;
}

class FederationTrustTest : public testing::Test {
 protected:
  std::string Issue(const CertificateAndKey& ca, Role role) {
    CertificateSubject subject = {.role = role, .name = "x"};
    if (role == Role::kServer) subject.dns_names = {"localhost"};
    return ToDer(*IssueCertificate(ca, subject, 30, kNow));
  }

  const CertificateAndKey ca_ = *MakeCertificateAuthority("north", 100, kNow);
  const std::unique_ptr<FederationTrust> trust_ =
      *FederationTrust::Create("north", ca_.certificate_pem);
};

TEST_F(FederationTrustTest, EveryRole_IsTold) {
  for (const Role role :
       {Role::kServer, Role::kWorker, Role::kClient, Role::kNode}) {
    ASSERT_OK_AND_ASSIGN(const PeerIdentity peer,
                         trust_->Verify(Issue(ca_, role), kNow));
    EXPECT_EQ(peer.role, role);
    EXPECT_EQ(peer.federation, "north");
    EXPECT_EQ(peer.name, "x");
    EXPECT_TRUE(peer.node.has_value());
  }
}

TEST_F(FederationTrustTest, AnotherAuthority_Unauthenticated) {
  const CertificateAndKey other = *MakeCertificateAuthority("north", 100, kNow);
  EXPECT_THAT(trust_->Verify(Issue(other, Role::kServer), kNow),
              StatusIs(kUnauthenticated, HasSubstr("does not stand")));
}

TEST_F(FederationTrustTest, SeveralAuthorities_EachIsTrusted) {
  const CertificateAndKey other = *MakeCertificateAuthority("north", 100, kNow);
  ASSERT_OK_AND_ASSIGN(
      const auto trust,
      FederationTrust::Create("north",
                              ca_.certificate_pem + other.certificate_pem));
  EXPECT_OK(trust->Verify(Issue(ca_, Role::kServer), kNow));
  EXPECT_OK(trust->Verify(Issue(other, Role::kServer), kNow));
}

TEST_F(FederationTrustTest, ExpiredOrNotYetValid_Unauthenticated) {
  const std::string der = Issue(ca_, Role::kServer);
  EXPECT_THAT(trust_->Verify(der, kNow + absl::Hours(24 * 31)),
              StatusIs(kUnauthenticated, HasSubstr("expired")));
  EXPECT_THAT(trust_->Verify(der, kNow - absl::Hours(1)),
              StatusIs(kUnauthenticated, HasSubstr("not yet valid")));
}

TEST_F(FederationTrustTest,
       AnotherFederationUnderOneAuthority_Unauthenticated) {
  ASSERT_OK_AND_ASSIGN(const auto trust,
                       FederationTrust::Create("south", ca_.certificate_pem));
  EXPECT_THAT(trust->Verify(Issue(ca_, Role::kServer), kNow),
              StatusIs(kUnauthenticated,
                       HasSubstr("of federation 'north', needed is 'south'")));
}

TEST_F(FederationTrustTest, TheAuthorityItself_Unauthenticated) {
  EXPECT_THAT(trust_->Verify(ToDer(ca_), kNow),
              StatusIs(kUnauthenticated, HasSubstr("found 0")));
}

TEST_F(FederationTrustTest, NoCertificate_Unauthenticated) {
  const std::string der = Issue(ca_, Role::kServer);
  for (const std::string& bytes :
       {std::string(), std::string("x"), der.substr(0, der.size() - 1),
        der + std::string(1, '\0'), der + der, std::string(1 << 20, '\x30')}) {
    EXPECT_THAT(trust_->Verify(bytes, kNow),
                StatusIs(kUnauthenticated, HasSubstr("is none")));
  }
}

TEST_F(FederationTrustTest, AnyFlippedBit_Unauthenticated) {
  const std::string der = Issue(ca_, Role::kServer);
  for (size_t i = 0; i < der.size(); ++i) {
    std::string flipped = der;
    flipped[i] = static_cast<char>(flipped[i] ^ (1 << (i % 8)));
    EXPECT_THAT(trust_->Verify(flipped, kNow), StatusIs(kUnauthenticated)) << i;
  }
}

TEST_F(FederationTrustTest, OneJudgeInSeveralThreads_SaysTheSame) {
  const std::string good = Issue(ca_, Role::kServer);
  const std::string bad =
      Issue(*MakeCertificateAuthority("north", 100, kNow), Role::kServer);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < 25; ++j) {
        EXPECT_OK(trust_->Verify(good, kNow));
        EXPECT_THAT(trust_->Verify(bad, kNow), StatusIs(kUnauthenticated));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(CreateFederationTrustTest, NoCertificates_InvalidArgument) {
  EXPECT_THAT(
      FederationTrust::Create("north", "rubbish"),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("in PEM")));
}

}  // namespace
}  // namespace koinon
