#include "tools/cli/exit_code.h"

#include <cstdio>
#include <string>

#include "tools/cli/text.h"

namespace koinon::cli {

ExitCode Report(const absl::Status& status) {
  if (status.ok()) return ExitCode::kOk;
  // The text may come from the other side of the wire.
  std::fprintf(stderr, "koinon: %s: %s\n",
               absl::StatusCodeToString(status.code()).c_str(),
               Printable(status.message()).c_str());
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
      return ExitCode::kUsage;
    case absl::StatusCode::kUnavailable:
      return ExitCode::kCannotConnect;
    default:
      return ExitCode::kFailed;
  }
}

}  // namespace koinon::cli
