#ifndef KOINON_WORKER_DATA_DATASET_H_
#define KOINON_WORKER_DATA_DATASET_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/env.h"
#include "worker/data/dataset.pb.h"
#include "worker/data/token_windows.h"

namespace koinon::worker {

// Examples in memory, or windows on tokens that may be anywhere. A value;
// thread-safe while nobody changes it.
struct Dataset {
  std::string name;
  std::vector<int64_t> shape;  // of one example: [1, 28, 28]
  // For models of sequences; then the shape is [context], and the rest empty.
  TokenWindows windows;
  std::vector<float> features;  // [size(), example_size()], finite
  std::vector<int32_t> labels;  // [size()], >= 0; empty for regression
  std::vector<float> targets;   // [size(), target_size], finite; else empty
  size_t target_size = 0;       // values per example; 0 for classification

  size_t size() const;
  // Features per example: the product of `shape`.
  size_t example_size() const;
  bool empty() const { return size() == 0; }
  bool is_sequences() const { return windows.tokens != nullptr; }
  // Labels per example.
  size_t positions() const {
    return is_sequences() ? static_cast<size_t>(windows.context) : 1;
  }
  // The examples at `indices`, in that order. Requires indices < size(), and
  // no sequences.
  Dataset Select(absl::Span<const size_t> indices) const;
};

// What a worker has under one dataset's name.
struct LocalData {
  Dataset train;
  Dataset held_out;  // may be empty

  // Set if only an external trainer can read the data: both sets are empty, and
  // these are the counts that the configuration declares.
  bool external = false;
  int64_t declared_examples = 0;
  int64_t declared_held_out_examples = 0;

  // Counts to tell the coordinator.
  int64_t examples() const;
  int64_t held_out_examples() const;
};

// By dataset name.
using LocalDatasets = std::map<std::string, LocalData>;

// Reads a dataset as `config` says: decodes its files, takes the site's share
// if a partition is simulated, and sets examples aside for evaluation. The same
// configuration and files give the same data in the same order. Files of tokens
// are mapped from the machine's own file system, whatever `env` is.
//
// INVALID_ARGUMENT for a configuration that contradicts itself (names the
// field) or a file that is not what it should be (names the file, the row,
// column or offset, what was expected and what was found);
// RESOURCE_EXHAUSTED over config.max_bytes; NOT_FOUND for a missing file.
absl::StatusOr<LocalData> LoadLocalData(Env* env, const DatasetConfig& config);

// All of `configs`. As LoadLocalData; INVALID_ARGUMENT for a name used twice.
absl::StatusOr<LocalDatasets> LoadLocalDatasets(
    Env* env, absl::Span<const DatasetConfig> configs);

// The table of class counts per site that config.partition leads to
// (FormatPartitionTable), for people. INVALID_ARGUMENT without a partition;
// otherwise as LoadLocalData.
absl::StatusOr<std::string> DescribePartition(Env* env,
                                              const DatasetConfig& config);

}  // namespace koinon::worker

#endif  // KOINON_WORKER_DATA_DATASET_H_
