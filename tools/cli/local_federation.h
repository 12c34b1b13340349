#ifndef KOINON_TOOLS_CLI_LOCAL_FEDERATION_H_
#define KOINON_TOOLS_CLI_LOCAL_FEDERATION_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "tools/cli/connection.h"
#include "tools/cli/local_plan.h"
#include "tools/cli/process.h"

namespace koinon::cli {

// A coordinator and its workers as child processes, watched over: one that ends
// unasked is started again after a while, as a service manager would.
//
// Used by one thread, which must live as long as the federation: the kernel
// kills the children when it ends. The destructor kills what still runs; Stop
// is the polite way.
class LocalFederation {
 public:
  using Say = std::function<void(const std::string& line)>;
  // Sleeps for the duration; true if the user wants to stop.
  using Pause = std::function<bool(absl::Duration)>;

  LocalFederation(LocalPlan plan, Say say, Pause pause);

  // Makes certificates unless there are some, starts the coordinator, waits for
  // its port, starts the workers and waits until all are connected. FAILED_
  // PRECONDITION, with where its log lies, if a process ends meanwhile;
  // DEADLINE_EXCEEDED; CANCELLED if the user wants to stop.
  absl::Status Start();

  // Starts again what has ended and whose time has come. To be called a few
  // times a second.
  void Supervise();

  // SIGKILL, as a power cut would; Supervise brings it back. NOT_FOUND lists
  // the workers.
  absl::Status Kill(const std::string& worker);

  // Ends workers, then the coordinator: SIGTERM, and after ten seconds SIGKILL.
  void Stop();

  // How to talk to it; after Start.
  const ConnectionOptions& connection() const { return connection_; }

 private:
  struct Process {
    std::string name;
    std::vector<std::string> command;
    std::unique_ptr<ChildProcess> child;
    absl::Time restart_at = absl::InfiniteFuture();
  };

  absl::Status PrepareFolders();
  absl::Status MakeCertificates();
  absl::Status StartCoordinator();
  absl::Status StartWorkers();
  absl::Status AwaitWorkers();
  absl::Status Launch(Process* process);
  // Pauses; an error if the user wants to stop, time is up or a process ended.
  absl::Status KeepWaiting(absl::Time deadline, const std::string& what);

  const LocalPlan plan_;
  const Say say_;
  const Pause pause_;
  ConnectionOptions connection_;
  std::vector<Process> processes_;  // the coordinator first
};

}  // namespace koinon::cli

#endif  // KOINON_TOOLS_CLI_LOCAL_FEDERATION_H_
