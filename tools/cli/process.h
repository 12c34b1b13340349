#ifndef KOINON_TOOLS_CLI_PROCESS_H_
#define KOINON_TOOLS_CLI_PROCESS_H_

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace koinon::cli {

// A program that runs as our child in a process group of its own, so that the
// terminal's ctrl-C reaches us alone, with both of its outputs appended to a
// log file. It is killed when the thread that started it ends, however that
// comes. The destructor kills it and waits. Not thread-safe.
class ChildProcess {
 public:
  // NOT_FOUND if there is no such program; PERMISSION_DENIED; or the log file's
  // error. Requires argv[0] to be a path.
  static absl::StatusOr<std::unique_ptr<ChildProcess>> Start(
      std::vector<std::string> argv, const std::string& log_path);
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }
  // No effect once it has ended.
  void Signal(int signal);
  // How it ended, in words ("exit code 3", "signal 9"), or nullopt while it
  // runs.
  std::optional<std::string> Poll();
  // As Poll, waiting for at most `timeout`.
  std::optional<std::string> Wait(absl::Duration timeout);

 private:
  explicit ChildProcess(pid_t pid) : pid_(pid) {}

  const pid_t pid_;
  std::optional<std::string> ended_;
};

}  // namespace koinon::cli

#endif  // KOINON_TOOLS_CLI_PROCESS_H_
