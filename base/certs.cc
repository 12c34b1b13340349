#include "base/certs.h"

#include <openssl/rand.h>

#include <ctime>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/check.h"
#include "base/ids.h"
#include "base/openssl_ptr.h"
#include "base/signing.h"
#include "base/status_macros.h"

namespace koinon {
namespace {

constexpr absl::Duration kClockDifference = absl::Minutes(5);
constexpr size_t kMaxDnsNameBytes = 253;

absl::Status OpenSslFailure(absl::string_view doing) {
  return absl::InternalError(
      absl::StrCat("cannot ", doing, ": ", TakeOpenSslError()));
}

absl::Status ValidateDays(int days) {
  if (days >= 1 && days <= kMaxCertificateDays) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("a certificate is valid for 1 to ", kMaxCertificateDays,
                   " days, found ", days));
}

absl::Status ValidateDnsName(absl::string_view name) {
  bool valid = !name.empty() && name.size() <= kMaxDnsNameBytes;
  for (const char c : name) {
    valid = valid && (absl::ascii_isalnum(c) || c == '-' || c == '.');
  }
  if (!valid) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", absl::CHexEscape(name.substr(0, kMaxDnsNameBytes)),
                     "' is not a DNS name of letters, digits, '-' and '.'"));
  }
  // Under this name any node could pass for the server.
  if (absl::EqualsIgnoreCase(absl::StripSuffix(name, "."), kNodeDnsName)) {
    return absl::InvalidArgumentError(
        absl::StrCat(kNodeDnsName,
                     " stands in every node's certificate, no server can be "
                     "called so"));
  }
  return absl::OkStatus();
}

absl::Status ValidateSubject(const CertificateSubject& subject) {
  ABSL_RETURN_IF_ERROR(ValidateId("name", subject.name));
  if (subject.role == PeerIdentity::Role::kAnonymous) {
    return absl::InvalidArgumentError(
        "a certificate is for a server, a worker, a client or a node");
  }
  if (!subject.site.empty()) {
    ABSL_RETURN_IF_ERROR(ValidateId("site", subject.site));
  }
  const bool has_hosts =
      !subject.dns_names.empty() || !subject.ip_addresses.empty();
  const bool is_server = subject.role == PeerIdentity::Role::kServer;
  if (is_server && !has_hosts) {
    return absl::InvalidArgumentError(absl::StrCat(
        "server ", subject.name,
        " needs a DNS name or an IP address that clients call it by"));
  }
  if (!is_server && has_hosts) {
    return absl::InvalidArgumentError(absl::StrCat(
        RoleName(subject.role), " ", subject.name,
        " cannot have DNS names or IP addresses, only servers have"));
  }
  for (const std::string& name : subject.dns_names) {
    ABSL_RETURN_IF_ERROR(ValidateDnsName(name));
  }
  return absl::OkStatus();
}

// Appends one name; takes `value` over in success and in failure.
bool AppendName(int type, ASN1_STRING* value, GENERAL_NAMES* names) {
  GENERAL_NAME* const name = GENERAL_NAME_new();
  KOINON_CHECK(name != nullptr && value != nullptr);
  GENERAL_NAME_set0_value(name, type, value);
  return sk_GENERAL_NAME_push(names, name) > 0;
}

bool AppendText(int type, absl::string_view text, GENERAL_NAMES* names) {
  ASN1_IA5STRING* const value = ASN1_IA5STRING_new();
  KOINON_CHECK(value != nullptr);
  ASN1_STRING_set(value, text.data(), static_cast<int>(text.size()));
  return AppendName(type, value, names);
}

// Built as objects and not as OpenSSL's configuration text, where a name could
// smuggle in others.
absl::StatusOr<GeneralNamesPtr> MakeNames(absl::string_view uri,
                                          absl::string_view node_uri,
                                          const CertificateSubject& subject) {
  GeneralNamesPtr names(sk_GENERAL_NAME_new_null());
  KOINON_CHECK(names != nullptr);
  bool appended = AppendText(GEN_URI, uri, names.get()) &&
                  AppendText(GEN_URI, node_uri, names.get()) &&
                  AppendText(GEN_DNS, kNodeDnsName, names.get());
  for (const std::string& name : subject.dns_names) {
    appended = appended && AppendText(GEN_DNS, name, names.get());
  }
  for (const std::string& address : subject.ip_addresses) {
    ASN1_OCTET_STRING* const value = a2i_IPADDRESS(address.c_str());
    ERR_clear_error();
    if (value == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", absl::CHexEscape(address.substr(0, 64)),
                       "' is not an IP address"));
    }
    appended = appended && AppendName(GEN_IPADD, value, names.get());
  }
  if (!appended) return OpenSslFailure("list a certificate's names");
  return names;
}

// `name` holds a slash and so is no DNS name: what looks for a host in the
// subject's common name must not find one.
bool SetNames(absl::string_view federation, absl::string_view name,
              X509* certificate) {
  X509_NAME* const subject = X509_get_subject_name(certificate);
  const auto add = [subject](const char* field, absl::string_view text) {
    return X509_NAME_add_entry_by_txt(
               subject, field, MBSTRING_UTF8,
               reinterpret_cast<const unsigned char*>(text.data()),
               static_cast<int>(text.size()), -1, 0) == 1;
  };
  return add("O", federation) && add("CN", name.substr(0, 64));
}

bool SetRandomSerial(X509* certificate) {
  const BignumPtr serial(BN_new());
  return serial != nullptr &&
         BN_rand(serial.get(), 128, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
         BN_to_ASN1_INTEGER(serial.get(), X509_get_serialNumber(certificate)) !=
             nullptr;
}

bool AddExtension(int nid, const char* value, X509* issuer, X509* certificate) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const X509ExtensionPtr extension(
      X509V3_EXT_conf_nid(nullptr, &context, nid, value));
  return extension != nullptr &&
         X509_add_ext(certificate, extension.get(), -1) == 1;
}

// A certificate over `key` without extensions, issuer and signature.
absl::StatusOr<X509Ptr> Draft(absl::string_view federation,
                              absl::string_view name, EVP_PKEY* key, int days,
                              absl::Time now) {
  X509Ptr certificate(X509_new());
  KOINON_CHECK(certificate != nullptr);
  const std::time_t begin = absl::ToTimeT(now - kClockDifference);
  const std::time_t end = absl::ToTimeT(now + days * absl::Hours(24));
  const bool made =
      X509_set_version(certificate.get(), X509_VERSION_3) == 1 &&
      SetRandomSerial(certificate.get()) &&
      ASN1_TIME_set(X509_getm_notBefore(certificate.get()), begin) != nullptr &&
      ASN1_TIME_set(X509_getm_notAfter(certificate.get()), end) != nullptr &&
      X509_set_pubkey(certificate.get(), key) == 1 &&
      SetNames(federation, name, certificate.get());
  if (!made) return OpenSslFailure("make a certificate");
  return certificate;
}

absl::Status Sign(X509* issuer, EVP_PKEY* issuer_key, X509* certificate) {
  const bool is_signed =
      X509_set_issuer_name(certificate, X509_get_subject_name(issuer)) == 1 &&
      AddExtension(NID_subject_key_identifier, "hash", issuer, certificate) &&
      AddExtension(NID_authority_key_identifier, "keyid:always", issuer,
                   certificate) &&
      X509_sign(certificate, issuer_key, EVP_sha256()) > 0;
  return is_signed ? absl::OkStatus() : OpenSslFailure("sign a certificate");
}

absl::StatusOr<std::string> TextOf(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  if (size <= 0) return OpenSslFailure("write PEM");
  return std::string(data, static_cast<size_t>(size));
}

absl::StatusOr<CertificateAndKey> ToPem(X509* certificate, EVP_PKEY* key) {
  const BioPtr certificate_bio(BIO_new(BIO_s_mem()));
  const BioPtr key_bio(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_X509(certificate_bio.get(), certificate) != 1 ||
      PEM_write_bio_PKCS8PrivateKey(key_bio.get(), key, nullptr, nullptr, 0,
                                    nullptr, nullptr) != 1) {
    return OpenSslFailure("write PEM");
  }
  CertificateAndKey pem;
  ABSL_ASSIGN_OR_RETURN(pem.certificate_pem, TextOf(certificate_bio.get()));
  ABSL_ASSIGN_OR_RETURN(pem.key_pem, TextOf(key_bio.get()));
  return pem;
}

absl::StatusOr<EvpPkeyPtr> MakeKey() {
  EvpPkeyPtr key(EVP_EC_gen("P-256"));
  if (key == nullptr) return OpenSslFailure("make a key");
  return key;
}

// The authority draws the nonce, not who will be the node.
absl::StatusOr<NodeIdentity> DrawIdentity(const PublicKey& key,
                                          const std::string& site) {
  NodeIdentity node{.key = key,
                    .nonce = std::string(NodeIdentity::kNonceBytes, '\0'),
                    .site = site};
  if (RAND_bytes(reinterpret_cast<unsigned char*>(node.nonce.data()),
                 static_cast<int>(node.nonce.size())) != 1) {
    return OpenSslFailure("draw a node's nonce");
  }
  return node;
}

// An authority as read back from PEM.
struct Authority {
  X509Ptr certificate;
  EvpPkeyPtr key;
  std::string federation;
};

absl::StatusOr<Authority> ReadAuthority(const CertificateAndKey& pem) {
  Authority ca;
  ca.certificate = ReadCertificate(ReadOnlyBio(pem.certificate_pem).get());
  ca.key = ReadKey(ReadOnlyBio(pem.key_pem).get());
  if (ca.certificate == nullptr || ca.key == nullptr) {
    return absl::InvalidArgumentError(
        "expected the authority's certificate and key in PEM, found none");
  }
  const bool matches =
      X509_check_private_key(ca.certificate.get(), ca.key.get()) == 1;
  ERR_clear_error();
  if (!matches || X509_check_ca(ca.certificate.get()) != 1) {
    return absl::InvalidArgumentError(
        "the authority's certificate is none that may sign others, or the key "
        "is not its own");
  }
  char federation[65] = {};
  X509_NAME_get_text_by_NID(X509_get_subject_name(ca.certificate.get()),
                            NID_organizationName, federation,
                            sizeof(federation));
  ca.federation = federation;
  ABSL_RETURN_IF_ERROR(
      ValidateId("federation in the authority's certificate", ca.federation));
  return ca;
}

absl::Status CheckAuthorityLasts(const Authority& ca, int days,
                                 absl::Time now) {
  std::time_t end = absl::ToTimeT(now + days * absl::Hours(24));
  if (X509_cmp_time(X509_get0_notAfter(ca.certificate.get()), &end) > 0) {
    return absl::OkStatus();
  }
  std::tm last_day = {};
  ASN1_TIME_to_tm(X509_get0_notAfter(ca.certificate.get()), &last_day);
  return absl::InvalidArgumentError(absl::StrCat(
      "the authority itself ends on ",
      absl::FormatTime("%Y-%m-%d", absl::FromTM(last_day, absl::UTCTimeZone()),
                       absl::UTCTimeZone()),
      ", before a certificate of ", days, " days does"));
}

// Adds what all certificates but the authority's have.
absl::Status Extend(const GeneralNamesPtr& names, PeerIdentity::Role role,
                    X509* issuer, X509* certificate) {
  const char* const uses = role == PeerIdentity::Role::kClient
                               ? "clientAuth"
                               : "serverAuth,clientAuth";
  const bool extended =
      AddExtension(NID_basic_constraints, "critical,CA:FALSE", issuer,
                   certificate) &&
      AddExtension(NID_key_usage, "critical,digitalSignature", issuer,
                   certificate) &&
      AddExtension(NID_ext_key_usage, uses, issuer, certificate) &&
      X509_add1_ext_i2d(certificate, NID_subject_alt_name, names.get(), 0,
                        X509V3_ADD_DEFAULT) == 1;
  return extended ? absl::OkStatus() : OpenSslFailure("extend a certificate");
}

}  // namespace

absl::StatusOr<CertificateAndKey> MakeCertificateAuthority(
    absl::string_view federation, int days, absl::Time now) {
  ABSL_RETURN_IF_ERROR(ValidateId("federation", federation));
  ABSL_RETURN_IF_ERROR(ValidateDays(days));
  ABSL_ASSIGN_OR_RETURN(const EvpPkeyPtr key, MakeKey());
  ABSL_ASSIGN_OR_RETURN(
      const X509Ptr ca,
      Draft(federation, "federation/authority", key.get(), days, now));
  const bool extended =
      AddExtension(NID_basic_constraints, "critical,CA:TRUE,pathlen:0",
                   ca.get(), ca.get()) &&
      AddExtension(NID_key_usage, "critical,keyCertSign,cRLSign", ca.get(),
                   ca.get());
  if (!extended) return OpenSslFailure("extend a certificate");
  ABSL_RETURN_IF_ERROR(Sign(ca.get(), key.get(), ca.get()));
  return ToPem(ca.get(), key.get());
}

absl::StatusOr<CertificateAndKey> IssueCertificate(
    const CertificateAndKey& authority, const CertificateSubject& subject,
    int days, absl::Time now) {
  ABSL_RETURN_IF_ERROR(ValidateSubject(subject));
  ABSL_RETURN_IF_ERROR(ValidateDays(days));
  ABSL_ASSIGN_OR_RETURN(const Authority ca, ReadAuthority(authority));
  ABSL_RETURN_IF_ERROR(CheckAuthorityLasts(ca, days, now));
  const SigningKey node_key = SigningKey::Generate();
  ABSL_ASSIGN_OR_RETURN(const NodeIdentity node,
                        DrawIdentity(node_key.public_key(), subject.site));
  const std::string role_and_name =
      absl::StrCat(RoleName(subject.role), "/", subject.name);
  ABSL_ASSIGN_OR_RETURN(
      const GeneralNamesPtr names,
      MakeNames(absl::StrCat("koinon://", ca.federation, "/", role_and_name),
                NodeIdentityUri(node), subject));
  ABSL_ASSIGN_OR_RETURN(const EvpPkeyPtr key, MakeKey());
  ABSL_ASSIGN_OR_RETURN(
      const X509Ptr certificate,
      Draft(ca.federation, role_and_name, key.get(), days, now));
  ABSL_RETURN_IF_ERROR(
      Extend(names, subject.role, ca.certificate.get(), certificate.get()));
  ABSL_RETURN_IF_ERROR(
      Sign(ca.certificate.get(), ca.key.get(), certificate.get()));
  ABSL_ASSIGN_OR_RETURN(CertificateAndKey pem,
                        ToPem(certificate.get(), key.get()));
  pem.key_pem += node_key.ToPem();
  return pem;
}

}  // namespace koinon
