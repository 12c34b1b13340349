#ifndef KOINON_COORDINATOR_JOBS_JOB_SPEC_H_
#define KOINON_COORDINATOR_JOBS_JOB_SPEC_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/job.pb.h"

namespace koinon::coordinator {

// The spec with every default filled in. INVALID_ARGUMENT that names the field
// ("cohort.minimum"), what it holds and what is allowed: ranges, contradictions
// (epochs and steps), names, the model's layers (through kernels/graph), the
// rule's options (through aggregation). `seed` and `name` must be set by the
// caller if they are empty.
absl::StatusOr<v1::JobSpec> ValidateJobSpec(v1::JobSpec spec);

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_JOBS_JOB_SPEC_H_
