#ifndef KOINON_COORDINATOR_SERVICE_IDENTITY_H_
#define KOINON_COORDINATOR_SERVICE_IDENTITY_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "base/tls.h"
#include "grpcpp/grpcpp.h"
#include "proto/dht.pb.h"

namespace koinon::coordinator {

// Who may call what. With plaintext nobody has an identity, and everybody may
// do everything: that is what --insecure means.
class AccessPolicy {
 public:
  // `require_tls`: anonymous peers are refused.
  AccessPolicy(std::string federation, bool require_tls)
      : federation_(std::move(federation)), require_tls_(require_tls) {}

  // PERMISSION_DENIED, saying which right is missing, unless the peer's
  // certificate has the role and federation. `name`, if not empty, must be the
  // certificate's.
  absl::Status Check(const grpc::AuthContext& peer, PeerIdentity::Role role,
                     absl::string_view name) const;
  // Whether the peer may say that this is its node: INVALID_ARGUMENT for what
  // is no contact, PERMISSION_DENIED, with both, unless node id and site are
  // its certificate's.
  absl::Status CheckNode(const grpc::AuthContext& peer,
                         const v1::Contact& contact) const;

 private:
  const std::string federation_;
  const bool require_tls_;
};

// The codes are the same numbers; the message is kept.
grpc::Status ToGrpcStatus(const absl::Status& status);

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_SERVICE_IDENTITY_H_
