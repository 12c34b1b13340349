#ifndef KOINON_WORKER_STORE_FILE_DIGEST_H_
#define KOINON_WORKER_STORE_FILE_DIGEST_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "base/digest.h"
#include "base/env.h"

namespace koinon::worker {

// SHA-256 of the file's first `size` bytes, read in blocks: memory stays flat
// whatever the size. Fails as File::ReadAt.
absl::StatusOr<Digest> DigestOfFile(const File& file, uint64_t size);

}  // namespace koinon::worker

#endif  // KOINON_WORKER_STORE_FILE_DIGEST_H_
