#ifndef KOINON_WORKER_DATA_NPY_H_
#define KOINON_WORKER_DATA_NPY_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/data/numeric_array.h"

namespace koinon::worker {

// Decodes NumPy's NPY format, versions 1 to 3 (numpy.org/doc/stable/reference/
// generated/numpy.lib.format.html): a magic number, a header that is a Python
// dictionary, the elements. Types <f4, <f8, |u1, <i4 and <i8 in C order;
// others, and Fortran order, are refused by name. `what` names the file in
// errors. INVALID_ARGUMENT that says what was expected and found;
// RESOURCE_EXHAUSTED if the elements take more than `max_bytes` as floats.
absl::StatusOr<NumericArray> DecodeNpy(absl::string_view what,
                                       absl::string_view bytes,
                                       uint64_t max_bytes);

}  // namespace koinon::worker

#endif  // KOINON_WORKER_DATA_NPY_H_
