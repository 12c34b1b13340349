#ifndef KOINON_TOOLS_CLI_COMMANDS_H_
#define KOINON_TOOLS_CLI_COMMANDS_H_

#include "tools/cli/exit_code.h"

namespace CLI {
class App;
}

namespace koinon::cli {

// Each adds one command, or a small group, to the app. When the app has parsed
// its command line, the chosen command runs and leaves its result in
// `exit_code`, which must live as long as the app.
void AddUpCommand(CLI::App* app, ExitCode* exit_code);
void AddJobCommands(CLI::App* app,
                    ExitCode* exit_code);  // submit, jobs, watch,
                                           // rounds, cancel, ...
void AddNodesCommand(CLI::App* app, ExitCode* exit_code);
void AddModelsCommand(CLI::App* app, ExitCode* exit_code);
void AddPullCommand(CLI::App* app, ExitCode* exit_code);
void AddTrainCommand(CLI::App* app, ExitCode* exit_code);
void AddEvaluateCommand(CLI::App* app, ExitCode* exit_code);
void AddAggregateCommand(CLI::App* app, ExitCode* exit_code);
void AddDhtCommand(CLI::App* app, ExitCode* exit_code);     // status, get, ...
void AddBenchCommands(CLI::App* app, ExitCode* exit_code);  // aggregate, ...
void AddCertsCommand(CLI::App* app, ExitCode* exit_code);
void AddCompletionCommand(CLI::App* app, ExitCode* exit_code);

}  // namespace koinon::cli

#endif  // KOINON_TOOLS_CLI_COMMANDS_H_
