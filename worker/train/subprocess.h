#ifndef KOINON_WORKER_TRAIN_SUBPROCESS_H_
#define KOINON_WORKER_TRAIN_SUBPROCESS_H_

#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/clock.h"

namespace koinon::worker {

// A program to run to its end.
struct Command {
  // The program (with a slash: a path; without: looked up on the PATH) and its
  // arguments. At least one. No shell comes between.
  std::vector<std::string> argv;
  std::vector<std::string> environment;  // "NAME=value": the whole of it
  std::string directory;                 // where it starts
  absl::Duration timeout = absl::InfiniteDuration();
  // From the request to end (SIGTERM) to its killing (SIGKILL).
  absl::Duration grace = absl::Seconds(5);
  // Longer lines of output are cut.
  size_t max_line_bytes = 4096;
};

// Runs `command` in a process group of its own, with nothing on standard input
// and no other descriptor of ours, and waits for it. Calls `on_line`, on this
// thread, for each line that it writes to standard output or standard error.
// Whatever it leaves running in its process group is killed when it ends.
//
// OK if it exits with 0. NOT_FOUND, PERMISSION_DENIED or RESOURCE_EXHAUSTED if
// it cannot be started; INTERNAL with its exit code or signal if it fails;
// DEADLINE_EXCEEDED after the timeout; CANCELLED soon after `stop` becomes
// true. None of the messages holds any of its output, which may be private.
absl::Status RunCommand(
    const Command& command, const Clock& clock, const std::atomic<bool>& stop,
    const std::function<void(absl::string_view line)>& on_line);

}  // namespace koinon::worker

#endif  // KOINON_WORKER_TRAIN_SUBPROCESS_H_
