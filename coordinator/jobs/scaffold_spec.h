#ifndef KOINON_COORDINATOR_JOBS_SCAFFOLD_SPEC_H_
#define KOINON_COORDINATOR_JOBS_SCAFFOLD_SPEC_H_

#include "absl/status/status.h"
#include "proto/job.pb.h"

namespace koinon::coordinator {

// If the job has training.scaffold: checks it together with the rest of the job
// as it was submitted, its training checked already, and fills in what follows
// from it (without a rule, aggregation.fedavg.uniform). INVALID_ARGUMENT names
// the fields that do not go together and what to do instead.
absl::Status CompleteScaffold(v1::JobSpec* spec);

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_JOBS_SCAFFOLD_SPEC_H_
