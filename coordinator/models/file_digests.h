#ifndef KOINON_COORDINATOR_MODELS_FILE_DIGESTS_H_
#define KOINON_COORDINATOR_MODELS_FILE_DIGESTS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/digest.h"

namespace koinon::coordinator {

// The digest of a file and of each of its chunks, in one pass over bytes that
// come in pieces of any length. A value; not thread-safe.
class FileDigests {
 public:
  // Requires chunk_size_bytes >= 1.
  explicit FileDigests(int64_t chunk_size_bytes);

  void Update(const void* data, size_t size);

  struct Result {
    Digest file;
    std::vector<Digest> chunks;  // in file order; the last may be short
  };
  // Of all bytes so far; starts anew.
  Result Finish();

 private:
  const uint64_t chunk_size_;
  Sha256 file_;
  Sha256 chunk_;
  uint64_t chunk_filled_ = 0;
  std::vector<Digest> chunks_;
};

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_MODELS_FILE_DIGESTS_H_
