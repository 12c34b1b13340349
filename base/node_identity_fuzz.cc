#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "base/check.h"
#include "base/node_identity.h"

// Any text is refused with a reason, or written as it was read.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view uri(reinterpret_cast<const char*>(data), size);
  const auto node = koinon::ParseNodeIdentityUri(uri);
  if (!node.ok()) {
    KOINON_CHECK(absl::IsInvalidArgument(node.status()));
    KOINON_CHECK(!node.status().message().empty());
    return 0;
  }
  KOINON_CHECK(node->nonce.size() == koinon::NodeIdentity::kNonceBytes);
  KOINON_CHECK(koinon::NodeIdentityUri(*node) == uri);
  return 0;
}
