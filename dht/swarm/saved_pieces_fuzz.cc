#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "base/check.h"
#include "base/digest.h"
#include "dht/swarm/merkle.h"
#include "dht/swarm/saved_pieces.h"

// Any bytes are refused, or mean the same once written again. The checksum is
// added, for nothing that is drawn would have it.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using koinon::dht::DecodeSavedPieces;
  const koinon::dht::MerkleTree tree = koinon::dht::TreeOf(
      std::vector<koinon::Digest>(10), 10 * koinon::dht::kLeafBytes,
      koinon::dht::kLeafBytes);
  std::string bytes(reinterpret_cast<const char*>(data), size);
  (void)DecodeSavedPieces(tree.content, bytes);
  bytes += koinon::Sha256Of(bytes).ToBytes();
  const auto saved = DecodeSavedPieces(tree.content, bytes);
  if (!saved.ok()) {
    KOINON_CHECK(absl::IsDataLoss(saved.status()));
    KOINON_CHECK(!saved.status().message().empty());
    return 0;
  }
  KOINON_CHECK(EncodeSavedPieces(tree.content, *saved) == bytes);
  return 0;
}
