#include "base/tls.h"

#include <grpc/grpc_security_constants.h>
#include <grpcpp/security/auth_context.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/openssl_ptr.h"
#include "base/status_macros.h"
#include "base/x509_identity.h"

namespace koinon {
namespace {

// Generous: a chain of certificates takes some kilobytes.
constexpr size_t kMaxPemBytes = 1u << 20;

// The files' contents, once they have been checked.
struct TlsMaterial {
  std::string certificate;
  std::string key;
  std::string ca;
};

absl::StatusOr<std::string> ReadPem(Env* env, absl::string_view what,
                                    const std::string& path) {
  if (path.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("TLS needs a ", what, " file, none is named"));
  }
  absl::StatusOr<std::string> pem = ReadFile(env, path, kMaxPemBytes);
  if (pem.ok()) return pem;
  return absl::FailedPreconditionError(
      absl::StrCat(pem.status().message(), " (the TLS ", what, ")"));
}

absl::StatusOr<std::vector<X509Ptr>> ParseCertificates(const std::string& path,
                                                       absl::string_view pem) {
  const BioPtr bio = ReadOnlyBio(pem);
  std::vector<X509Ptr> certificates;
  while (X509Ptr certificate = ReadCertificate(bio.get())) {
    certificates.push_back(std::move(certificate));
  }
  if (certificates.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": expected a certificate in PEM, found none"));
  }
  return certificates;
}

absl::Status CheckKey(Env* env, const TlsFiles& files, absl::string_view pem,
                      X509* certificate) {
  const EvpPkeyPtr key = ReadKey(ReadOnlyBio(pem).get());
  if (key == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(
        files.key,
        ": expected a private key in PEM without a passphrase, found none"));
  }
  const bool matches = X509_check_private_key(certificate, key.get()) == 1;
  ERR_clear_error();
  if (!matches) {
    return absl::FailedPreconditionError(
        absl::StrCat(files.key, ": is not the key of the certificate in ",
                     files.certificate));
  }
  ABSL_ASSIGN_OR_RETURN(const bool is_private, env->IsPrivate(files.key));
  if (!is_private) {
    return absl::FailedPreconditionError(absl::StrCat(
        files.key,
        ": others than its owner may read this private key; chmod 600 it"));
  }
  return absl::OkStatus();
}

// Checks the chain, whose first certificate is the own one, up to the CA's.
absl::Status CheckChain(const TlsFiles& files,
                        const std::vector<X509Ptr>& chain,
                        const std::vector<X509Ptr>& ca, absl::Time now) {
  const X509StorePtr store(X509_STORE_new());
  for (const X509Ptr& root : ca) X509_STORE_add_cert(store.get(), root.get());
  // Borrows the certificates: only the stack itself is freed.
  const auto free_stack = [](STACK_OF(X509) * stack) { sk_X509_free(stack); };
  const std::unique_ptr<STACK_OF(X509), decltype(free_stack)> between(
      sk_X509_new_null(), free_stack);
  for (size_t i = 1; i < chain.size(); ++i) {
    sk_X509_push(between.get(), chain[i].get());
  }
  const X509StoreCtxPtr context(X509_STORE_CTX_new());
  X509_STORE_CTX_init(context.get(), store.get(), chain[0].get(),
                      between.get());
  X509_STORE_CTX_set_time(context.get(), 0, absl::ToTimeT(now));
  const bool verified = X509_verify_cert(context.get()) == 1;
  ERR_clear_error();
  if (verified) return absl::OkStatus();
  const int error = X509_STORE_CTX_get_error(context.get());
  return absl::FailedPreconditionError(
      absl::StrCat(files.certificate, ": does not stand under the CA in ",
                   files.ca, ": ", X509_verify_cert_error_string(error)));
}

absl::StatusOr<TlsMaterial> LoadTlsFiles(Env* env, const TlsFiles& files,
                                         absl::Time now) {
  TlsMaterial material;
  ABSL_ASSIGN_OR_RETURN(material.certificate,
                        ReadPem(env, "certificate", files.certificate));
  ABSL_ASSIGN_OR_RETURN(material.key, ReadPem(env, "key", files.key));
  ABSL_ASSIGN_OR_RETURN(material.ca, ReadPem(env, "CA", files.ca));
  ABSL_ASSIGN_OR_RETURN(
      const std::vector<X509Ptr> chain,
      ParseCertificates(files.certificate, material.certificate));
  ABSL_ASSIGN_OR_RETURN(const std::vector<X509Ptr> ca,
                        ParseCertificates(files.ca, material.ca));
  ABSL_RETURN_IF_ERROR(CheckKey(env, files, material.key, chain[0].get()));
  ABSL_RETURN_IF_ERROR(CheckChain(files, chain, ca, now));
  return material;
}

bool IsPlaintext(const grpc::AuthContext& context) {
  const std::vector<grpc::string_ref> types =
      context.FindPropertyValues(GRPC_TRANSPORT_SECURITY_TYPE_PROPERTY_NAME);
  return types.size() == 1 && types[0] == "insecure";
}

}  // namespace

absl::Status CheckTlsFiles(Env* env, const TlsFiles& files, absl::Time now) {
  return LoadTlsFiles(env, files, now).status();
}

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeServerCredentials(
    Env* env, const TlsFiles& files, absl::Time now) {
  ABSL_ASSIGN_OR_RETURN(TlsMaterial material, LoadTlsFiles(env, files, now));
  grpc::SslServerCredentialsOptions options(
      GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  options.pem_root_certs = std::move(material.ca);
  options.pem_key_cert_pairs.push_back(
      {std::move(material.key), std::move(material.certificate)});
  return grpc::SslServerCredentials(options);
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>>
MakeChannelCredentials(Env* env, const TlsFiles& files, absl::Time now) {
  ABSL_ASSIGN_OR_RETURN(TlsMaterial material, LoadTlsFiles(env, files, now));
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = std::move(material.ca);
  options.pem_private_key = std::move(material.key);
  options.pem_cert_chain = std::move(material.certificate);
  return grpc::SslCredentials(options);
}

std::shared_ptr<grpc::ServerCredentials> MakeInsecureServerCredentials() {
  return grpc::InsecureServerCredentials();
}

std::shared_ptr<grpc::ChannelCredentials> MakeInsecureChannelCredentials() {
  return grpc::InsecureChannelCredentials();
}

absl::StatusOr<PeerIdentity> PeerIdentityOf(const grpc::AuthContext& context) {
  // Whatever is not plaintext by name has to prove who it is.
  if (IsPlaintext(context)) return PeerIdentity();
  if (!context.IsPeerAuthenticated()) {
    return absl::UnauthenticatedError("the peer showed no certificate");
  }
  std::vector<std::string> uris;
  for (const grpc::string_ref& value :
       context.FindPropertyValues(GRPC_PEER_URI_PROPERTY_NAME)) {
    uris.emplace_back(value.data(), value.size());
  }
  absl::StatusOr<PeerIdentity> identity = IdentityFromUris(uris);
  if (identity.ok()) return identity;
  return absl::UnauthenticatedError(
      absl::StrCat("in the peer's certificate: ", identity.status().message()));
}

absl::StatusOr<PeerIdentity> IdentityOfCertificate(Env* env,
                                                   const std::string& path) {
  ABSL_ASSIGN_OR_RETURN(const std::string pem,
                        ReadPem(env, "certificate", path));
  ABSL_ASSIGN_OR_RETURN(const std::vector<X509Ptr> chain,
                        ParseCertificates(path, pem));
  absl::StatusOr<PeerIdentity> identity = IdentityOfX509(chain[0].get());
  if (identity.ok()) return identity;
  return absl::Status(identity.status().code(),
                      absl::StrCat(path, ": ", identity.status().message()));
}

}  // namespace koinon
