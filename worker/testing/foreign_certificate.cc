#include "worker/testing/foreign_certificate.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <memory>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace koinon::worker {
namespace {

template <typename T, auto Free>
using Owned = std::unique_ptr<T, std::integral_constant<decltype(Free), Free>>;
using BioPtr = Owned<BIO, &BIO_free_all>;

void AddExtension(int nid, const std::string& value, X509* certificate) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, certificate, certificate, nullptr, nullptr, 0);
  const Owned<X509_EXTENSION, &X509_EXTENSION_free> extension(
      X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str()));
  KOINON_CHECK(extension != nullptr &&
               X509_add_ext(certificate, extension.get(), -1) == 1);
}

std::string TextOf(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return std::string(data, static_cast<size_t>(size));
}

}  // namespace

CertificateAndKey MakeForeignCertificate(const std::string& uri,
                                         absl::Time now) {
  const Owned<EVP_PKEY, &EVP_PKEY_free> key(EVP_EC_gen("P-256"));
  const Owned<X509, &X509_free> certificate(X509_new());
  KOINON_CHECK(key != nullptr && certificate != nullptr);
  X509_set_version(certificate.get(), X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), 1);
  ASN1_TIME_set(X509_getm_notBefore(certificate.get()),
                absl::ToTimeT(now - absl::Hours(1)));
  ASN1_TIME_set(X509_getm_notAfter(certificate.get()),
                absl::ToTimeT(now + absl::Hours(24)));
  X509_NAME* const name = X509_get_subject_name(certificate.get());
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>("foreign"),
                             -1, -1, 0);
  X509_set_issuer_name(certificate.get(), name);
  X509_set_pubkey(certificate.get(), key.get());
  AddExtension(NID_basic_constraints, "critical,CA:TRUE", certificate.get());
  AddExtension(NID_subject_alt_name, absl::StrCat("URI:", uri),
               certificate.get());
  KOINON_CHECK(X509_sign(certificate.get(), key.get(), EVP_sha256()) > 0);
  const BioPtr certificate_bio(BIO_new(BIO_s_mem()));
  const BioPtr key_bio(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509(certificate_bio.get(), certificate.get());
  PEM_write_bio_PKCS8PrivateKey(key_bio.get(), key.get(), nullptr, nullptr, 0,
                                nullptr, nullptr);
  return {TextOf(certificate_bio.get()), TextOf(key_bio.get())};
}

}  // namespace koinon::worker
