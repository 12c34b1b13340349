#include "worker/train/evaluation.h"

#include <algorithm>
#include <cmath>

#include "base/status_macros.h"
#include "worker/train/batches.h"

namespace koinon::worker {

absl::StatusOr<TrainingTotals> EvaluateDataset(const Dataset& data,
                                               size_t batch_size,
                                               kernels::Network* network,
                                               const std::atomic<bool>& stop,
                                               size_t max_batches) {
  const size_t all = (data.size() + batch_size - 1) / batch_size;
  const size_t count = std::min(all, max_batches);
  Batches batches(data, batch_size);
  TrainingTotals totals;
  size_t next = 0;
  for (size_t i = 0; i < count; ++i) {
    if (stop.load()) return absl::CancelledError("evaluation was stopped");
    // i * all / count without its product.
    const size_t wanted = all / count * i + all % count * i / count;
    batches.Skip(wanted - next);
    next = wanted + 1;
    ABSL_ASSIGN_OR_RETURN(const kernels::Batch batch, batches.Next());
    ABSL_ASSIGN_OR_RETURN(const kernels::BatchMetrics metrics,
                          network->Evaluate(batch));
    totals.Add(metrics, batch.size, static_cast<int64_t>(data.positions()));
  }
  if (std::isfinite(totals.MeanLoss())) return totals;
  return absl::InternalError("loss on the held-out part is not finite");
}

}  // namespace koinon::worker
