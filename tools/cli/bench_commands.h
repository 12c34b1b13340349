#ifndef KOINON_TOOLS_CLI_BENCH_COMMANDS_H_
#define KOINON_TOOLS_CLI_BENCH_COMMANDS_H_

#include "tools/cli/exit_code.h"

namespace CLI {
class App;
}

namespace koinon::cli {

// Members of the `koinon bench` group that have files of their own; as the
// functions of commands.h.
void AddAttacksBench(CLI::App* group, ExitCode* exit_code);
void AddDhtBench(CLI::App* group, ExitCode* exit_code);
void AddMnistBench(CLI::App* group, ExitCode* exit_code);
void AddMpiBench(CLI::App* group, ExitCode* exit_code);
void AddRoundBench(CLI::App* group, ExitCode* exit_code);
void AddSwarmBench(CLI::App* group, ExitCode* exit_code);

}  // namespace koinon::cli

#endif  // KOINON_TOOLS_CLI_BENCH_COMMANDS_H_
