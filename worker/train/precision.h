#ifndef KOINON_WORKER_TRAIN_PRECISION_H_
#define KOINON_WORKER_TRAIN_PRECISION_H_

#include "absl/status/statusor.h"
#include "proto/job.pb.h"

namespace koinon::worker {

// Whether a training makes its products in bfloat16 on a processor that can
// (`has_bfloat16`: kernels::HasBfloat16) or cannot. FAILED_PRECONDITION if it
// must and the processor cannot; INVALID_ARGUMENT for a precision that nobody
// knows.
absl::StatusOr<bool> UsesBfloat16(const v1::TrainingSpec& spec,
                                  bool has_bfloat16);

}  // namespace koinon::worker

#endif  // KOINON_WORKER_TRAIN_PRECISION_H_
