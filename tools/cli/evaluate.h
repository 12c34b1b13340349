#ifndef KOINON_TOOLS_CLI_EVALUATE_H_
#define KOINON_TOOLS_CLI_EVALUATE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "base/env.h"
#include "proto/job.pb.h"
#include "worker/data/dataset.pb.h"

namespace koinon::cli {

struct EvaluateOptions {
  int threads = 1;
  uint64_t max_model_bytes = uint64_t{16} << 30;
  // Only what the dataset holds out, in place of all its examples.
  bool held_out = false;
  // At most so many examples, spread evenly over the data. Zero: all.
  int64_t max_examples = 0;
};

// Measures the safetensors file at `model_path`, a model of `job`, on
// `dataset`, on this machine with Koinon's own kernels and in the job's
// precision; the loss is the job's, or the one that fits the data.
// INVALID_ARGUMENT if the file's layout is not the job's, or the data do not
// fit the model; FAILED_PRECONDITION for bfloat16 on a processor without it,
// and if nothing is held out that should be measured; the loaders' errors;
// RESOURCE_EXHAUSTED over the bound.
absl::StatusOr<v1::Metrics> EvaluateModel(Env* env,
                                          const std::string& model_path,
                                          const v1::JobSpec& job,
                                          worker::DatasetConfig dataset,
                                          const EvaluateOptions& options);

}  // namespace koinon::cli

#endif  // KOINON_TOOLS_CLI_EVALUATE_H_
