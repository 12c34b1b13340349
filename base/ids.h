#ifndef KOINON_BASE_IDS_H_
#define KOINON_BASE_IDS_H_

#include <compare>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace koinon {

// Ids that people see and choose: short names, safe in file names, URLs, logs
// and certificates: [a-z0-9][a-z0-9._-]{0,62}.
using JobId = std::string;
using WorkerId = std::string;
using DatasetName = std::string;

// INVALID_ARGUMENT that names `kind` ("worker id", ...) and says what is wrong
// unless `id` is such a name.
absl::Status ValidateId(absl::string_view kind, absl::string_view id);

// One unit of work for one worker. `round` counts from 1. There is one task
// per (job, round, kind, worker), however often the round is retried.
struct TaskId {
  enum class Kind { kTrain, kEvaluate };
  JobId job;
  int64_t round = 0;
  Kind kind = Kind::kTrain;

  // "digits-1/r3/train"
  std::string ToString() const;
  friend bool operator==(const TaskId&, const TaskId&) = default;
  friend auto operator<=>(const TaskId&, const TaskId&) = default;
};

}  // namespace koinon

#endif  // KOINON_BASE_IDS_H_
