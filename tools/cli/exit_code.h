#ifndef KOINON_TOOLS_CLI_EXIT_CODE_H_
#define KOINON_TOOLS_CLI_EXIT_CODE_H_

#include "absl/status/status.h"

namespace koinon::cli {

// What the `koinon` command returns to the shell; docs/operations.md.
enum class ExitCode {
  kOk = 0,
  kFailed = 1,
  kUsage = 2,          // flags or a job file that make no sense
  kCannotConnect = 3,  // no coordinator there, or TLS does not come about
  kJobFailed = 4,      // watched to its end: failed or cancelled
};

// Prints the error to standard error and says which exit code it makes.
// kOk, without a word, for an OK status.
ExitCode Report(const absl::Status& status);

}  // namespace koinon::cli

#endif  // KOINON_TOOLS_CLI_EXIT_CODE_H_
