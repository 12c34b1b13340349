#include "coordinator/service/identity.h"

#include "absl/strings/str_cat.h"
#include "base/digest.h"
#include "base/node_identity.h"
#include "base/status_macros.h"
#include "dht/key.h"

namespace koinon::coordinator {
absl::Status AccessPolicy::Check(const grpc::AuthContext& peer,
                                 PeerIdentity::Role role,
                                 absl::string_view name) const {
  ABSL_ASSIGN_OR_RETURN(const PeerIdentity identity, PeerIdentityOf(peer));
  if (identity.role == PeerIdentity::Role::kAnonymous) {
    if (!require_tls_) return absl::OkStatus();
    return absl::UnauthenticatedError("a client certificate is required");
  }
  if (identity.federation != federation_) {
    return absl::PermissionDeniedError(
        absl::StrCat("the certificate is of federation '", identity.federation,
                     "', this is '", federation_, "'"));
  }
  if (identity.role != role) {
    return absl::PermissionDeniedError(
        absl::StrCat("the certificate's role is ", RoleName(identity.role),
                     "; this call needs role ", RoleName(role)));
  }
  if (!name.empty() && identity.name != name) {
    return absl::PermissionDeniedError(
        absl::StrCat("the certificate's name is '", identity.name,
                     "', the call says '", name, "'"));
  }
  return absl::OkStatus();
}

absl::Status AccessPolicy::CheckNode(const grpc::AuthContext& peer,
                                     const v1::Contact& contact) const {
  ABSL_ASSIGN_OR_RETURN(const dht::Contact node,
                        dht::ContactFromProto(contact));
  ABSL_ASSIGN_OR_RETURN(const PeerIdentity identity, PeerIdentityOf(peer));
  if (identity.role == PeerIdentity::Role::kAnonymous) return absl::OkStatus();
  if (!identity.node.has_value()) {
    return absl::PermissionDeniedError(
        "peer: the certificate carries no node (koinon certs makes such)");
  }
  const Digest id = NodeIdOf(federation_, *identity.node);
  if (node.id != id) {
    return absl::PermissionDeniedError(
        absl::StrCat("peer: the certificate's node is ", id.ToShortHex(),
                     ", the call says ", node.id.ToShortHex()));
  }
  if (node.site != identity.node->site) {
    return absl::PermissionDeniedError(
        absl::StrCat("peer: the certificate's site is '", identity.node->site,
                     "', the call says '", node.site, "'"));
  }
  return absl::OkStatus();
}

grpc::Status ToGrpcStatus(const absl::Status& status) {
  // It travels in a header, of which peers take a few KiB; three bytes for
  // each that is not plain text.
  constexpr size_t kMaxMessageBytes = 2000;
  return grpc::Status(
      static_cast<grpc::StatusCode>(status.code()),
      std::string(status.message().substr(0, kMaxMessageBytes)));
}

}  // namespace koinon::coordinator
