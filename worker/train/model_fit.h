#ifndef KOINON_WORKER_TRAIN_MODEL_FIT_H_
#define KOINON_WORKER_TRAIN_MODEL_FIT_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "kernels/graph/model_graph.h"
#include "proto/job.pb.h"
#include "worker/data/dataset.h"

namespace koinon::worker {

// The spec's loss, or its default.
v1::TrainingSpec::Loss LossOf(const v1::TrainingSpec& spec);
// Whether what the loss compares with are classes.
bool HasClasses(v1::TrainingSpec::Loss loss);

// INVALID_ARGUMENT, saying what was expected and found, unless model, loss and
// data fit each other: the shape of an example (a flat model takes any with as
// many features), classes and tokens that the model has, one class for each
// position that has an output, as many values to predict.
// Requires data to be not empty.
absl::Status CheckModelFit(const kernels::ModelGraph& graph,
                           v1::TrainingSpec::Loss loss, const Dataset& data);

// RESOURCE_EXHAUSTED for what would not fit memory: a few bytes of model
// describe any number of parameters, or layers that are small but put out much
// for a batch.
absl::Status CheckModelMemory(const kernels::ModelGraph& graph,
                              size_t batch_size, uint64_t max_bytes);

}  // namespace koinon::worker

#endif  // KOINON_WORKER_TRAIN_MODEL_FIT_H_
