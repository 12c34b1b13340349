#include "base/node_identity.h"

#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/hash_text.h"
#include "base/ids.h"
#include "base/status_macros.h"

namespace koinon {
namespace {

constexpr size_t kMaxUriBytes = 256;

absl::Status NotANodeUri(absl::string_view uri) {
  return absl::InvalidArgumentError(absl::StrCat(
      "expected koinon-node:1:KEY:NONCE:SITE with a key of 64 and a nonce of "
      "32 small hexadecimal digits, found '",
      absl::CHexEscape(uri.substr(0, kMaxUriBytes)), "'"));
}

}  // namespace

Digest NodeIdOf(absl::string_view federation, const NodeIdentity& node) {
  Sha256 sha;
  HashText("koinon-node", &sha);
  HashText(federation, &sha);
  HashText(node.key.ToSpki(), &sha);
  HashText(node.nonce, &sha);
  return sha.Finish();
}

std::string NodeIdentityUri(const NodeIdentity& node) {
  return absl::StrCat(kNodeIdentityScheme, "1:", node.key.ToHex(), ":",
                      absl::BytesToHexString(node.nonce), ":", node.site);
}

absl::StatusOr<NodeIdentity> ParseNodeIdentityUri(absl::string_view uri) {
  if (uri.size() > kMaxUriBytes) return NotANodeUri(uri);
  const std::vector<absl::string_view> parts = absl::StrSplit(uri, ':');
  if (parts.size() != 5) return NotANodeUri(uri);
  NodeIdentity node;
  absl::StatusOr<PublicKey> key = PublicKey::FromHex(parts[2]);
  if (!key.ok()) return NotANodeUri(uri);
  node.key = *key;
  node.nonce = absl::HexStringToBytes(parts[3]);
  node.site = std::string(parts[4]);
  // Written in one way only: whatever differs is refused, letters that are no
  // digits among it.
  if (node.nonce.size() != NodeIdentity::kNonceBytes ||
      NodeIdentityUri(node) != uri) {
    return NotANodeUri(uri);
  }
  if (!node.site.empty()) {
    ABSL_RETURN_IF_ERROR(ValidateId("site", node.site));
  }
  return node;
}

NodeIdentity SelfMadeIdentity(const PublicKey& key, std::string site) {
  return {
      key,
      Sha256Of(key.ToBytes()).ToBytes().substr(0, NodeIdentity::kNonceBytes),
      std::move(site)};
}

}  // namespace koinon
