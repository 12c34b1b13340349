#include "worker/models/identity.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/status_macros.h"

namespace koinon::worker {
namespace {

constexpr size_t kMaxPemBytes = 1 << 20;
// The coordinator's, unless it is told otherwise.
constexpr char kDefaultFederation[] = "koinon";

std::string KeyPath(const std::string& state_dir) {
  return absl::StrCat(state_dir, "/node.key");
}

absl::Status CheckSays(absl::string_view flag, absl::string_view said,
                       absl::string_view certificate_says) {
  if (said.empty() || said == certificate_says) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(flag, ": over TLS it is the certificate's, which says \"",
                   certificate_says, "\", found \"", said, "\""));
}

// Of an authority that knows no nodes: an identity that nobody is shown.
absl::StatusOr<LocalNode> LoadWithoutNode(Env* env,
                                          const std::string& state_dir,
                                          const TlsFiles& tls,
                                          const PeeringSpec& spec,
                                          const absl::Status& reason) {
  if (!spec.listen.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--peer-listen: this worker cannot serve others: ", reason.message()));
  }
  ABSL_ASSIGN_OR_RETURN(const PeerIdentity identity,
                        IdentityOfCertificate(env, tls.certificate));
  return LoadOrMakeLocalNode(env, KeyPath(state_dir), identity.federation,
                             OwnerOf(identity), /*site=*/"");
}

}  // namespace

absl::StatusOr<WorkerIdentity> LoadWorkerIdentity(
    Env* env, const std::string& worker, const std::string& state_dir,
    const TlsFiles& tls, const PeeringSpec& spec, absl::Time now) {
  if (tls.empty()) {
    ABSL_ASSIGN_OR_RETURN(
        LocalNode local,
        LoadOrMakeLocalNode(
            env, KeyPath(state_dir),
            spec.federation.empty() ? kDefaultFederation : spec.federation,
            absl::StrCat("worker/", worker), spec.site));
    return WorkerIdentity{
        .local = std::move(local), .has_node = true, .authority = nullptr};
  }
  absl::StatusOr<LocalNode> local = LoadLocalNode(env, tls, now);
  const bool has_node = local.ok();
  if (!local.ok() && NotForNodes(local.status())) {
    local = LoadWithoutNode(env, state_dir, tls, spec, local.status());
  }
  ABSL_RETURN_IF_ERROR(local.status());
  ABSL_RETURN_IF_ERROR(CheckSays("--site", spec.site, local->identity.site));
  ABSL_RETURN_IF_ERROR(
      CheckSays("--federation", spec.federation, local->federation));
  ABSL_ASSIGN_OR_RETURN(const std::string ca,
                        ReadFile(env, tls.ca, kMaxPemBytes));
  ABSL_ASSIGN_OR_RETURN(auto authority,
                        FederationTrust::Create(local->federation, ca));
  return WorkerIdentity{.local = *std::move(local),
                        .has_node = has_node,
                        .authority = std::move(authority)};
}

}  // namespace koinon::worker
