#ifndef KOINON_KERNELS_LOSS_H_
#define KOINON_KERNELS_LOSS_H_

#include <cstddef>

#include "kernels/network.h"
#include "proto/job.pb.h"

namespace koinon::kernels {

// The loss of one batch, accumulated in double, in example order: the same
// whatever `threads`, of which so many work on different examples. Allocates
// nothing.
//
// outputs:  [B, output_size], B = batch.size
// gradient: [B, output_size], of the mean loss by the outputs; null: not wanted
//
// `batch` has passed CheckBatch. Instantiated for float and double.
template <typename Real>
BatchMetrics ComputeLoss(v1::TrainingSpec::Loss loss, const Batch& batch,
                         size_t output_size, const Real* outputs,
                         Real* gradient, int threads = 1);

}  // namespace koinon::kernels

#endif  // KOINON_KERNELS_LOSS_H_
