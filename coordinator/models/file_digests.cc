#include "coordinator/models/file_digests.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace koinon::coordinator {

FileDigests::FileDigests(int64_t chunk_size_bytes)
    : chunk_size_(static_cast<uint64_t>(chunk_size_bytes)) {
  KOINON_CHECK(chunk_size_bytes >= 1);
}

void FileDigests::Update(const void* data, size_t size) {
  // Small enough to be in the cache still for the second digest.
  constexpr uint64_t kPiece = 64u << 10;
  const char* bytes = static_cast<const char*>(data);
  while (size > 0) {
    const uint64_t piece =
        std::min<uint64_t>({size, kPiece, chunk_size_ - chunk_filled_});
    file_.Update(bytes, piece);
    chunk_.Update(bytes, piece);
    chunk_filled_ += piece;
    if (chunk_filled_ == chunk_size_) {
      chunks_.push_back(chunk_.Finish());
      chunk_filled_ = 0;
    }
    bytes += piece;
    size -= piece;
  }
}

FileDigests::Result FileDigests::Finish() {
  if (chunk_filled_ > 0) chunks_.push_back(chunk_.Finish());
  chunk_filled_ = 0;
  Result result;
  result.file = file_.Finish();
  result.chunks = std::exchange(chunks_, {});
  return result;
}

}  // namespace koinon::coordinator
