#ifndef KOINON_WORKER_DATA_NPZ_H_
#define KOINON_WORKER_DATA_NPZ_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/data/numeric_array.h"

namespace koinon::worker {

// Decodes the array `key` of an NPZ archive: a zip file of NPY members
// "KEY.npy", stored (numpy.savez) or deflated (numpy.savez_compressed). No
// encryption, no archives of 4 GiB and more. `what` names the file in errors.
//
// NOT_FOUND without such a member, listing those there are; INVALID_ARGUMENT
// for an archive that contradicts itself (says at which offset) or a bad check
// sum; RESOURCE_EXHAUSTED if the member unpacks to more than `max_bytes`; and
// as DecodeNpy.
absl::StatusOr<NumericArray> DecodeNpz(absl::string_view what,
                                       absl::string_view bytes,
                                       absl::string_view key,
                                       uint64_t max_bytes);

}  // namespace koinon::worker

#endif  // KOINON_WORKER_DATA_NPZ_H_
