#ifndef KOINON_TOOLS_CLI_APP_H_
#define KOINON_TOOLS_CLI_APP_H_

namespace koinon::cli {

// The whole `koinon` command: parses its arguments, runs the command that they
// name, prints to standard output and standard error, and returns the exit code
// (tools/cli/exit_code.h).
int RunCommandLine(int argc, const char* const* argv);

}  // namespace koinon::cli

#endif  // KOINON_TOOLS_CLI_APP_H_
