#ifndef KOINON_WORKER_DATA_UNPACK_H_
#define KOINON_WORKER_DATA_UNPACK_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/env.h"

namespace koinon::worker {

// Decompression (zlib), bounded: a few bytes can unpack to terabytes.

// The content of a gzip file of one or several members. `what` names it in
// errors. INVALID_ARGUMENT for bytes that are no gzip, end early or fail their
// check sum; RESOURCE_EXHAUSTED if the content is longer than `max_bytes`.
absl::StatusOr<std::string> Gunzip(absl::string_view what,
                                   absl::string_view packed,
                                   uint64_t max_bytes);

// The `size_bytes` bytes that a raw deflate stream holds. INVALID_ARGUMENT if
// it is damaged or holds more or fewer.
absl::StatusOr<std::string> Inflate(absl::string_view what,
                                    absl::string_view packed,
                                    uint64_t size_bytes);

// CRC-32 as gzip and zip use it.
uint32_t Crc32(absl::string_view bytes);

// A whole file, unpacked if its first bytes are gzip's, whatever its name.
// RESOURCE_EXHAUSTED if it is longer than `max_bytes`, packed or unpacked.
absl::StatusOr<std::string> ReadUnpacked(Env* env, const std::string& path,
                                         uint64_t max_bytes);

}  // namespace koinon::worker

#endif  // KOINON_WORKER_DATA_UNPACK_H_
