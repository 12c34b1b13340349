#ifndef KOINON_COORDINATOR_JOBS_TRAINING_SPEC_H_
#define KOINON_COORDINATOR_JOBS_TRAINING_SPEC_H_

#include "absl/status/status.h"
#include "proto/job.pb.h"

namespace koinon::coordinator {

// Fills in the defaults of a job's `training` and checks it, as ValidateJobSpec
// does for the whole.
absl::Status CompleteTrainingSpec(v1::TrainingSpec* training);

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_JOBS_TRAINING_SPEC_H_
