#ifndef KOINON_TOOLS_CLI_LOCAL_PLAN_H_
#define KOINON_TOOLS_CLI_LOCAL_PLAN_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/data/dataset.pb.h"

namespace koinon::cli {

// What `koinon up` runs: one coordinator and some workers on this machine. Pure
// functions from options to command lines; LocalFederation starts them.
struct LocalPlan {
  std::string coordinator_program;
  std::string worker_program;
  std::string state_dir;
  std::string federation = "local";
  int workers = 4;
  int worker_threads = 1;
  std::string listen = "127.0.0.1:0";
  bool insecure = false;
  // What every worker has; each partition says how it is dealt out, but not
  // which site a worker is.
  std::vector<worker::DatasetConfig> datasets;
  std::vector<std::string> external_trainers;  // NAME=COMMAND
  std::vector<std::string> coordinator_flags;  // handed on as they are
  std::vector<std::string> worker_flags;
};

// Reads datasets in protobuf text (or "@FILE") and deals each that has no
// partition of its own as `partition` says: "none" (every worker has all of
// it), "iid", "dirichlet:ALPHA", "shards:PER_SITE" or "column:NAME".
// INVALID_ARGUMENT for anything else, and for an empty `partition` where
// several workers need one.
absl::StatusOr<std::vector<worker::DatasetConfig>> ParseDatasets(
    const std::vector<std::string>& texts, absl::string_view partition,
    int workers);

// The two programs: in `bin_dir` if it is not empty, else next to the running
// program, else where Bazel puts them beside it. Each is looked for as
// DIR/koinon-worker and as DIR/worker/koinon-worker. NOT_FOUND lists the
// places.
struct Programs {
  std::string coordinator;
  std::string worker;
};
absl::StatusOr<Programs> FindPrograms(const std::string& bin_dir,
                                      const std::string& own_path);

// `index` counts from 1.
std::string LocalWorkerName(int index);
// Where a process keeps its things, below the state folder.
std::string CertsDirOf(const LocalPlan& plan);
std::string PortFileOf(const LocalPlan& plan);
std::string LogFileOf(const LocalPlan& plan, absl::string_view process);
std::string StateDirOf(const LocalPlan& plan, absl::string_view process);

std::vector<std::string> CoordinatorCommand(const LocalPlan& plan,
                                            const std::string& listen);
std::vector<std::string> WorkerCommand(const LocalPlan& plan, int index,
                                       const std::string& coordinator);

}  // namespace koinon::cli

#endif  // KOINON_TOOLS_CLI_LOCAL_PLAN_H_
