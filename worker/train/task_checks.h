#ifndef KOINON_WORKER_TRAIN_TASK_CHECKS_H_
#define KOINON_WORKER_TRAIN_TASK_CHECKS_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/model_layout.h"
#include "proto/worker.pb.h"
#include "worker/data/dataset.h"

namespace koinon::worker {

// What every trainer asks of an offer before it starts.

// The offer's dataset, which lives as long as `datasets`. NOT_FOUND if there is
// none of that name; lists those there are.
absl::StatusOr<const LocalData*> FindDataset(const LocalDatasets& datasets,
                                             const v1::OfferTask& offer);

// FAILED_PRECONDITION if the dataset has no held-out part.
absl::Status CheckHeldOut(const LocalData& data, const v1::OfferTask& offer);

// INVALID_ARGUMENT unless the layout is the one that the offer announced.
absl::Status CheckOfferedLayout(const v1::OfferTask& offer,
                                const ModelLayout& layout);

}  // namespace koinon::worker

#endif  // KOINON_WORKER_TRAIN_TASK_CHECKS_H_
