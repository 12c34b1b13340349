#ifndef KOINON_WORKER_CONFIG_H_
#define KOINON_WORKER_CONFIG_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/env.h"
#include "base/tls.h"
#include "worker/data/dataset.h"
#include "worker/models/peering_spec.h"
#include "worker/train/external_trainer.pb.h"

namespace koinon::worker {

// What an operator gives to koinon-worker, as flags or in a file. A value.
struct WorkerConfig {
  std::string name;
  std::string coordinator;  // "host:port"
  std::string state_dir;
  // Protocol buffers in text, or "@FILE" that holds it
  // (worker/data/dataset.proto).
  std::vector<std::string> datasets;
  // "NAME=COMMAND ARGUMENT...", split at blanks; or "@FILE" that holds an
  // ExternalTrainerConfig in text (worker/train/external_trainer.proto).
  std::vector<std::string> external_trainers;
  double external_trainer_timeout_seconds = 3600;
  // 0: every processor that the process may use, divided among the ranks of
  // this node.
  int threads = 0;
  // Whether this process is one rank of a site: "on", "off", or "auto": if it
  // was started by mpirun or the like.
  std::string mpi = "auto";
  // Without progress of a rank, until the site ends.
  double mpi_timeout_seconds = 60;
  TlsFiles tls;
  bool insecure = false;
  PeeringSpec peering;
  int64_t max_model_bytes = int64_t{16} << 30;
  int64_t max_chunk_bytes = 4 << 20;
  int64_t model_cache_bytes = int64_t{32} << 30;
  int64_t max_held_updates = 16;
  int64_t max_held_bytes = int64_t{32} << 30;
  int64_t max_control_bytes = int64_t{32} << 30;
  double stop_seconds = 10;

  // INVALID_ARGUMENT that names the flag and says what is allowed.
  absl::Status Validate() const;
};

// The datasets of a config. INVALID_ARGUMENT, with line and column, for text
// that is no DatasetConfig; as ReadFile for "@FILE".
absl::StatusOr<std::vector<DatasetConfig>> DatasetConfigs(
    Env* env, const WorkerConfig& config);

// The external trainers of a config; likewise.
absl::StatusOr<std::vector<ExternalTrainerConfig>> ExternalTrainerConfigs(
    Env* env, const WorkerConfig& config);

// The paths of a config's data, programs and state, as given and absolute: what
// errors of this worker may name. Errors as of the two above.
absl::StatusOr<std::vector<std::string>> PathsIn(Env* env,
                                                 const WorkerConfig& config);

}  // namespace koinon::worker

#endif  // KOINON_WORKER_CONFIG_H_
