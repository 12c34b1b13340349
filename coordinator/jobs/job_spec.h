#ifndef KOINON_COORDINATOR_JOBS_JOB_SPEC_H_
#define KOINON_COORDINATOR_JOBS_JOB_SPEC_H_

#include "absl/status/statusor.h"
#include "proto/job.pb.h"

namespace koinon::coordinator {

// The spec with every default filled in. INVALID_ARGUMENT that names the field
// ("cohort.minimum"), what it holds and what is allowed: ranges, contradictions
// (epochs and steps), names, the model's layers (through kernels/graph), the
// rule's options (through aggregation). Contradictions count as errors, and so
// do fields that would have no effect. A job's name is needed; whoever makes up
// names and seeds does so before. Validating the result again changes nothing,
// so that equal jobs compare equal.
absl::StatusOr<v1::JobSpec> ValidateJobSpec(v1::JobSpec spec);

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_JOBS_JOB_SPEC_H_
