#include "dht/swarm/leaf_check.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "dht/swarm/leaf_hashes.h"

namespace koinon::dht {

LeafCheck::LeafCheck(const PieceMap& map, uint32_t piece,
                     std::vector<Digest> leaves)
    : piece_(piece),
      bytes_(map.PieceBytes(piece)),
      leaves_(std::move(leaves)) {}

absl::Status LeafCheck::Check(absl::Span<const uint8_t> data) {
  const int64_t size = static_cast<int64_t>(data.size());
  const bool whole = size % kLeafBytes == 0 || checked_ + size == bytes_;
  if (!whole || size > bytes_ - checked_) {
    return absl::DataLossError(
        absl::StrCat("piece ", piece_, ": whole leaves expected, of ", bytes_,
                     " bytes; found ", size, " at ", checked_));
  }
  const std::vector<Digest> found = LeafHashes(data);
  for (size_t i = 0; i < found.size(); ++i) {
    if (found[i] == leaves_[next_ + i]) continue;
    return absl::DataLossError(absl::StrCat("piece ", piece_, ": leaf ",
                                            next_ + i, " has another hash"));
  }
  checked_ += size;
  next_ += found.size();
  return absl::OkStatus();
}

}  // namespace koinon::dht
