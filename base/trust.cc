#include "base/trust.h"

#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/openssl_ptr.h"
#include "base/x509_identity.h"

namespace koinon {
namespace {

// A certificate of ours takes less than one.
constexpr size_t kMaxCertificateBytes = 16 << 10;

absl::Status Untrusted(absl::string_view why) {
  return absl::UnauthenticatedError(
      absl::StrCat("the signer's certificate ", why));
}

// Null unless `der` is one certificate and nothing more.
X509Ptr ParseDer(absl::string_view der) {
  if (der.size() > kMaxCertificateBytes) return nullptr;
  const auto* begin = reinterpret_cast<const unsigned char*>(der.data());
  const unsigned char* end = begin;
  X509Ptr certificate(d2i_X509(nullptr, &end, static_cast<long>(der.size())));
  ERR_clear_error();
  if (end != begin + der.size()) return nullptr;
  return certificate;
}

}  // namespace

struct FederationTrust::Store {
  X509StorePtr x509;
};

FederationTrust::FederationTrust(std::string federation,
                                 std::unique_ptr<Store> store)
    : federation_(std::move(federation)), store_(std::move(store)) {}

FederationTrust::~FederationTrust() = default;

absl::StatusOr<std::unique_ptr<FederationTrust>> FederationTrust::Create(
    std::string federation, absl::string_view ca_pem) {
  auto store = std::make_unique<Store>();
  store->x509.reset(X509_STORE_new());
  const BioPtr bio = ReadOnlyBio(ca_pem);
  int certificates = 0;
  while (const X509Ptr certificate = ReadCertificate(bio.get())) {
    X509_STORE_add_cert(store->x509.get(), certificate.get());
    ++certificates;
  }
  ERR_clear_error();
  if (certificates == 0) {
    return absl::InvalidArgumentError(
        "expected the authority's certificate in PEM, found none");
  }
  return std::unique_ptr<FederationTrust>(
      new FederationTrust(std::move(federation), std::move(store)));
}

absl::StatusOr<PeerIdentity> FederationTrust::Verify(
    absl::string_view certificate_der, absl::Time now) const {
  const X509Ptr certificate = ParseDer(certificate_der);
  if (certificate == nullptr) return Untrusted("is none");
  const X509StoreCtxPtr context(X509_STORE_CTX_new());
  X509_STORE_CTX_init(context.get(), store_->x509.get(), certificate.get(),
                      nullptr);
  X509_STORE_CTX_set_time(context.get(), 0, absl::ToTimeT(now));
  const bool stands = X509_verify_cert(context.get()) == 1;
  ERR_clear_error();
  if (!stands) {
    return Untrusted(
        absl::StrCat("does not stand under the federation's authority: ",
                     X509_verify_cert_error_string(
                         X509_STORE_CTX_get_error(context.get()))));
  }
  absl::StatusOr<PeerIdentity> identity = IdentityOfX509(certificate.get());
  if (!identity.ok()) {
    return Untrusted(
        absl::StrCat("says not who it is of: ", identity.status().message()));
  }
  if (identity->federation != federation_) {
    return Untrusted(absl::StrCat("is of federation '", identity->federation,
                                  "', needed is '", federation_, "'"));
  }
  return identity;
}

}  // namespace koinon
