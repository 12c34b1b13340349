#ifndef KOINON_WORKER_DATA_IDX_H_
#define KOINON_WORKER_DATA_IDX_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/data/numeric_array.h"

namespace koinon::worker {

// Decodes the IDX format (yann.lecun.com/exdb/mnist): two zero bytes, a type, a
// rank, big-endian extents, big-endian elements. `what` names the file in
// errors. INVALID_ARGUMENT that says at which offset what was expected and
// found; RESOURCE_EXHAUSTED if the elements take more than `max_bytes` as
// floats.
absl::StatusOr<NumericArray> DecodeIdx(absl::string_view what,
                                       absl::string_view bytes,
                                       uint64_t max_bytes);

}  // namespace koinon::worker

#endif  // KOINON_WORKER_DATA_IDX_H_
