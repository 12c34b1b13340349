#ifndef KOINON_COORDINATOR_JOBS_ARITHMETIC_SPEC_H_
#define KOINON_COORDINATOR_JOBS_ARITHMETIC_SPEC_H_

#include "absl/status/status.h"
#include "proto/job.pb.h"

namespace koinon::coordinator {

// If the job's rule is fedavg (or none, which means it): fills in
// aggregation.fedavg.arithmetic, and checks FIXED_POINT together with the rest
// of the job. INVALID_ARGUMENT names the fields that do not go together and
// what to do instead.
absl::Status CompleteArithmetic(v1::JobSpec* spec);

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_JOBS_ARITHMETIC_SPEC_H_
