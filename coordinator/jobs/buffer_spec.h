#ifndef KOINON_COORDINATOR_JOBS_BUFFER_SPEC_H_
#define KOINON_COORDINATOR_JOBS_BUFFER_SPEC_H_

#include "absl/status/status.h"
#include "proto/job.pb.h"

namespace koinon::coordinator {

// Fills in the defaults of spec->buffer, if it has one, and checks it together
// with the rest of the job, which is checked already and has its defaults:
// INVALID_ARGUMENT with the field's name, also for what does not go together
// with buffered rounds.
absl::Status CompleteBuffer(v1::JobSpec* spec);

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_JOBS_BUFFER_SPEC_H_
