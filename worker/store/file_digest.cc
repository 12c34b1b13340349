#include "worker/store/file_digest.h"

#include <algorithm>
#include <vector>

#include "base/status_macros.h"

namespace koinon::worker {

absl::StatusOr<Digest> DigestOfFile(const File& file, uint64_t size) {
  constexpr uint64_t kBlockBytes = 1 << 20;
  std::vector<char> block(static_cast<size_t>(std::min(size, kBlockBytes)));
  Sha256 hash;
  for (uint64_t offset = 0; offset < size; offset += block.size()) {
    const auto length =
        static_cast<size_t>(std::min<uint64_t>(block.size(), size - offset));
    ABSL_RETURN_IF_ERROR(file.ReadAt(offset, length, block.data()));
    hash.Update(block.data(), length);
  }
  return hash.Finish();
}

}  // namespace koinon::worker
