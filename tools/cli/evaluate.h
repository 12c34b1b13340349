#ifndef KOINON_TOOLS_CLI_EVALUATE_H_
#define KOINON_TOOLS_CLI_EVALUATE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "base/env.h"
#include "proto/job.pb.h"
#include "worker/data/dataset.pb.h"

namespace koinon::cli {

// Measures the safetensors file at `model_path`, a model of `job`, on all
// examples of `dataset`, on this machine with Koinon's own kernels.
// INVALID_ARGUMENT if the file's layout is not the job's, or the data do not
// fit the model; the loaders' errors; RESOURCE_EXHAUSTED over
// `max_model_bytes`.
absl::StatusOr<v1::Metrics> EvaluateModel(
    Env* env, const std::string& model_path, const v1::JobSpec& job,
    worker::DatasetConfig dataset, int threads, uint64_t max_model_bytes);

}  // namespace koinon::cli

#endif  // KOINON_TOOLS_CLI_EVALUATE_H_
