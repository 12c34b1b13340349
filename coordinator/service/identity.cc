#include "coordinator/service/identity.h"

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

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

grpc::Status ToGrpcStatus(const absl::Status& status) {
  // It travels in a header, of which peers take a few KiB; three bytes for
  // each that is not plain text.
  constexpr size_t kMaxMessageBytes = 2000;
  return grpc::Status(
      static_cast<grpc::StatusCode>(status.code()),
      std::string(status.message().substr(0, kMaxMessageBytes)));
}

}  // namespace koinon::coordinator
