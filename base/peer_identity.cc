#include "base/peer_identity.h"

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/ids.h"
#include "base/status_macros.h"

namespace koinon {
namespace {

constexpr absl::string_view kUriScheme = "koinon://";

std::optional<PeerIdentity::Role> RoleFromName(absl::string_view name) {
  if (name == "worker") return PeerIdentity::Role::kWorker;
  if (name == "client") return PeerIdentity::Role::kClient;
  if (name == "server") return PeerIdentity::Role::kServer;
  if (name == "node") return PeerIdentity::Role::kNode;
  return std::nullopt;
}

std::vector<absl::string_view> WithScheme(const std::vector<std::string>& uris,
                                          absl::string_view scheme) {
  std::vector<absl::string_view> found;
  for (const std::string& uri : uris) {
    if (absl::StartsWith(uri, scheme)) found.push_back(uri);
  }
  return found;
}

}  // namespace

std::string OwnerOf(const PeerIdentity& identity) {
  switch (identity.role) {
    case PeerIdentity::Role::kAnonymous:
      return "";
    case PeerIdentity::Role::kServer:
      return "server";
    case PeerIdentity::Role::kWorker:
    case PeerIdentity::Role::kClient:
    case PeerIdentity::Role::kNode:
      break;
  }
  return absl::StrCat(RoleName(identity.role), "/", identity.name);
}

absl::string_view RoleName(PeerIdentity::Role role) {
  switch (role) {
    case PeerIdentity::Role::kWorker:
      return "worker";
    case PeerIdentity::Role::kClient:
      return "client";
    case PeerIdentity::Role::kServer:
      return "server";
    case PeerIdentity::Role::kNode:
      return "node";
    case PeerIdentity::Role::kAnonymous:
      break;
  }
  return "anonymous";
}

absl::StatusOr<PeerIdentity> ParseIdentityUri(absl::string_view uri) {
  absl::string_view rest = uri;
  const std::vector<absl::string_view> parts =
      absl::ConsumePrefix(&rest, kUriScheme)
          ? std::vector<absl::string_view>(absl::StrSplit(rest, '/'))
          : std::vector<absl::string_view>();
  const std::optional<PeerIdentity::Role> role =
      parts.size() == 3 ? RoleFromName(parts[1]) : std::nullopt;
  if (!role.has_value()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "expected koinon://FEDERATION/ROLE/NAME with the role worker, client, "
        "server or node, found '",
        absl::CHexEscape(uri.substr(0, 256)), "'"));
  }
  ABSL_RETURN_IF_ERROR(ValidateId("federation", parts[0]));
  ABSL_RETURN_IF_ERROR(ValidateId("name", parts[2]));
  return PeerIdentity{.role = *role,
                      .federation = std::string(parts[0]),
                      .name = std::string(parts[2])};
}

absl::StatusOr<PeerIdentity> IdentityFromUris(
    const std::vector<std::string>& uris) {
  const std::vector<absl::string_view> peers = WithScheme(uris, kUriScheme);
  if (peers.size() != 1) {
    const std::string message =
        absl::StrCat("expected one koinon:// URI, found ", peers.size());
    return peers.empty() ? absl::NotFoundError(message)
                         : absl::InvalidArgumentError(message);
  }
  const std::vector<absl::string_view> nodes =
      WithScheme(uris, kNodeIdentityScheme);
  if (nodes.size() > 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "expected at most one koinon-node: URI, found ", nodes.size()));
  }
  ABSL_ASSIGN_OR_RETURN(PeerIdentity identity, ParseIdentityUri(peers[0]));
  if (!nodes.empty()) {
    ABSL_ASSIGN_OR_RETURN(identity.node, ParseNodeIdentityUri(nodes[0]));
  }
  return identity;
}

}  // namespace koinon
