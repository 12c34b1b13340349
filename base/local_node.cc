#include "base/local_node.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "base/ids.h"
#include "base/openssl_ptr.h"
#include "base/status_macros.h"

namespace koinon {
namespace {

constexpr size_t kMaxPemBytes = 1u << 20;
constexpr char kNotForNodesUrl[] = "koinon.v1/not_for_nodes";

absl::StatusOr<std::string> CertificateDer(Env* env, const std::string& path) {
  ABSL_ASSIGN_OR_RETURN(const std::string pem,
                        ReadFile(env, path, kMaxPemBytes));
  const X509Ptr certificate = ReadCertificate(ReadOnlyBio(pem).get());
  const int size =
      certificate == nullptr ? -1 : i2d_X509(certificate.get(), nullptr);
  if (size <= 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": expected a certificate in PEM, found none"));
  }
  std::string der(static_cast<size_t>(size), '\0');
  auto* data = reinterpret_cast<unsigned char*>(der.data());
  i2d_X509(certificate.get(), &data);
  return der;
}

// The identity in the certificate, or why there is none.
absl::StatusOr<PeerIdentity> NodeOfCertificate(Env* env,
                                               const std::string& path) {
  absl::StatusOr<PeerIdentity> peer = IdentityOfCertificate(env, path);
  const bool none =
      absl::IsNotFound(peer.status()) || (peer.ok() && !peer->node.has_value());
  if (!none) return peer;
  absl::Status status = absl::FailedPreconditionError(absl::StrCat(
      path,
      ": the certificate carries no identity of a node; `koinon certs` makes "
      "certificates that do"));
  status.SetPayload(kNotForNodesUrl, absl::Cord());
  return status;
}

absl::StatusOr<SigningKey> KeyOfNode(Env* env, const TlsFiles& files,
                                     const NodeIdentity& node) {
  ABSL_ASSIGN_OR_RETURN(const std::string pem,
                        ReadFile(env, files.key, kMaxPemBytes));
  absl::StatusOr<SigningKey> key = SigningKey::FromPem(pem);
  if (!key.ok()) {
    return absl::FailedPreconditionError(
        absl::StrCat(files.key, ": ", key.status().message(),
                     "; the one that `koinon certs`"
                     " wrote after the certificate's key belongs there"));
  }
  if (key->public_key() != node.key) {
    return absl::FailedPreconditionError(absl::StrCat(
        files.key, ": its Ed25519 key is not that of the node in ",
        files.certificate, "; `koinon certs` makes both together"));
  }
  return key;
}

absl::StatusOr<SigningKey> ReadNodeKey(Env* env, const std::string& path) {
  ABSL_ASSIGN_OR_RETURN(const std::string pem,
                        ReadFile(env, path, kMaxPemBytes));
  ABSL_ASSIGN_OR_RETURN(const bool is_private, env->IsPrivate(path));
  if (!is_private) {
    return absl::FailedPreconditionError(absl::StrCat(
        path,
        ": others than its owner may read this private key; chmod 600 "
        "it"));
  }
  absl::StatusOr<SigningKey> key = SigningKey::FromPem(pem);
  if (key.ok()) return key;
  return absl::DataLossError(absl::StrCat(
      path, ": ", key.status().message(),
      "; without the file a new key, and so a new identity, is made"));
}

absl::StatusOr<SigningKey> ReadOrMakeNodeKey(Env* env,
                                             const std::string& path) {
  if (env->Exists(path)) return ReadNodeKey(env, path);
  SigningKey key = SigningKey::Generate();
  ABSL_RETURN_IF_ERROR(env->MakeDirs(DirectoryOf(path)));
  ABSL_RETURN_IF_ERROR(WritePrivateFileAtomically(env, path, key.ToPem()));
  return key;
}

}  // namespace

absl::StatusOr<LocalNode> LoadLocalNode(Env* env, const TlsFiles& files,
                                        absl::Time now) {
  ABSL_RETURN_IF_ERROR(CheckTlsFiles(env, files, now));
  ABSL_ASSIGN_OR_RETURN(const PeerIdentity peer,
                        NodeOfCertificate(env, files.certificate));
  ABSL_ASSIGN_OR_RETURN(SigningKey key, KeyOfNode(env, files, *peer.node));
  ABSL_ASSIGN_OR_RETURN(std::string der,
                        CertificateDer(env, files.certificate));
  return LocalNode{.key = std::move(key),
                   .identity = *peer.node,
                   .id = NodeIdOf(peer.federation, *peer.node),
                   .federation = peer.federation,
                   .owner = OwnerOf(peer),
                   .certificate_der = std::move(der)};
}

bool NotForNodes(const absl::Status& status) {
  return status.GetPayload(kNotForNodesUrl).has_value();
}

absl::StatusOr<LocalNode> LoadOrMakeLocalNode(Env* env,
                                              const std::string& key_path,
                                              const std::string& federation,
                                              const std::string& owner,
                                              const std::string& site) {
  if (!site.empty()) ABSL_RETURN_IF_ERROR(ValidateId("site", site));
  ABSL_ASSIGN_OR_RETURN(SigningKey key, ReadOrMakeNodeKey(env, key_path));
  NodeIdentity identity = SelfMadeIdentity(key.public_key(), site);
  const Digest id = NodeIdOf(federation, identity);
  return LocalNode{.key = std::move(key),
                   .identity = std::move(identity),
                   .id = id,
                   .federation = federation,
                   .owner = owner,
                   .certificate_der = ""};
}

}  // namespace koinon
