#ifndef KOINON_TOOLS_CLI_AGGREGATE_H_
#define KOINON_TOOLS_CLI_AGGREGATE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "aggregation/core/aggregator.h"
#include "base/env.h"
#include "proto/job.pb.h"

namespace koinon::cli {

// One round's aggregation of files on disk.
struct AggregateRequest {
  v1::AggregationSpec spec;
  // Safetensors files of one all-F32 layout. A file's name without folders and
  // ".safetensors" is its worker's id; ids are distinct, and in ascending order
  // of their bytes the files are aggregated.
  std::vector<std::string> updates;
  // One for each of `updates`, in their order; empty: 1 each.
  std::vector<double> weights;
  std::string base;     // empty: none
  bool models = false;  // `updates` are whole models: the base is subtracted
  std::string output;
  // Where the server optimizer's state, and the rule's, is from step to step;
  // empty: this is the first step, and nothing is kept.
  std::string state_dir;
  // Which step this is, from 1. 0: the one after the state's, else the first.
  int64_t step = 0;
  uint64_t seed = 0;  // a job's
  int threads = 1;
  aggregation::AggregatorOptions aggregator;
};

struct AggregateOutcome {
  v1::AggregationReport report;
  int64_t step = 1;
  bool used_weights = false;  // else they were checked, and changed nothing
};

// Applies pre-aggregations, rule and server optimizer with the coordinator's
// code, and writes to `output` the base and the step, or the step alone without
// a base. Memory: blocks, whatever the size of the models. `output` appears
// whole or not at all, and so does the state, after it: interrupted in between,
// the same request does the same step again.
//
// Errors name file or worker: INVALID_ARGUMENT (layouts that differ, values
// that are not finite, weights, options that contradict each other or have no
// effect, an output that is an input or no regular file), ALREADY_EXISTS (two
// updates of one worker), FAILED_PRECONDITION (too few updates for the rule;
// state of another optimizer), DATA_LOSS (state that is incomplete), NOT_FOUND
// and the like for files. On failure `output` is what it was.
absl::StatusOr<AggregateOutcome> AggregateFiles(
    Env* env, const AggregateRequest& request);

}  // namespace koinon::cli

#endif  // KOINON_TOOLS_CLI_AGGREGATE_H_
