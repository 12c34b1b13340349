#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "base/check.h"
#include "base/digest.h"
#include "dht/swarm/hash_list.h"
#include "dht/swarm/merkle.h"

// Any bytes are refused as no hashes, or are the same once written again; and
// what a peer may send as the hashes of a piece's leaves is hashed, or is more
// than a piece has.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using koinon::Digest;
  const absl::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto hashes = koinon::dht::DecodeHashes(bytes);
  KOINON_CHECK(hashes.ok() == (size % Digest::kSizeBytes == 0));
  if (!hashes.ok()) {
    KOINON_CHECK(absl::IsDataLoss(hashes.status()));
    KOINON_CHECK(!hashes.status().message().empty());
    return 0;
  }
  KOINON_CHECK(hashes->size() == size / Digest::kSizeBytes);
  KOINON_CHECK(koinon::dht::EncodeHashes(*hashes) == bytes);
  constexpr size_t kMostLeaves =
      koinon::dht::kMaxPieceBytes / koinon::dht::kLeafBytes;
  if (hashes->size() > kMostLeaves) return 0;
  // A leaf that is missing is one of zeros.
  std::vector<Digest> padded = *hashes;
  padded.resize(kMostLeaves);
  KOINON_CHECK(koinon::dht::PieceHash(*hashes, kMostLeaves) ==
               koinon::dht::PieceHash(padded, kMostLeaves));
  return 0;
}
