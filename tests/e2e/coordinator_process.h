#ifndef KOINON_TESTS_E2E_COORDINATOR_PROCESS_H_
#define KOINON_TESTS_E2E_COORDINATOR_PROCESS_H_

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/cli/process.h"

namespace koinon::testing {

// Where Bazel put a file that the test has as data ("worker/koinon-worker").
std::string Runfile(const std::string& path);
// A folder of this test's own, empty.
std::string FreshDir(const std::string& name);
// The most memory that a running process has had resident so far.
double PeakRssMib(pid_t pid);

// A koinon-coordinator in a process of its own, with its state and its log in
// `dir`, on a free port of all that it listens on. The destructor kills it. Not
// thread-safe.
class CoordinatorProcess {
 public:
  struct Options {
    std::string dir;
    // Beside --listen, --state-dir and --port-file.
    std::vector<std::string> flags;
    std::string host = "127.0.0.1";
    int max_descriptors = 0;  // 0: as many as we may have
  };
  // UNAVAILABLE, with its log, if it ends or does not serve in time.
  static absl::StatusOr<std::unique_ptr<CoordinatorProcess>> Start(
      const Options& options);

  int port() const { return port_; }
  std::string address() const;  // to connect to
  pid_t pid() const { return process_->pid(); }
  int open_descriptors() const;
  // How it ended, once it has: "exit code 0", "signal 9".
  std::string Wait();
  // SIGTERM, and Wait.
  std::string Stop();

 private:
  CoordinatorProcess(std::unique_ptr<cli::ChildProcess> process, int port)
      : process_(std::move(process)), port_(port) {}

  const std::unique_ptr<cli::ChildProcess> process_;
  const int port_;
};

}  // namespace koinon::testing

#endif  // KOINON_TESTS_E2E_COORDINATOR_PROCESS_H_
