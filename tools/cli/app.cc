#include "tools/cli/app.h"

#include <CLI/CLI.hpp>
#include <string>

#include "base/version.h"
#include "tools/cli/commands.h"

namespace koinon::cli {
namespace {

constexpr char kDescription[] =
    "Koinon trains one model across machines that keep their own data.";

constexpr char kFooter[] =
    "Examples:\n"
    "  koinon up --workers 4 --help           a federation on this machine\n"
    "  koinon certs certs --workers 8         keys for a federation\n"
    "  koinon submit digits.txtpb --watch     train, and see it happen\n"
    "  koinon pull digits -o digits.safetensors\n"
    "  koinon train digits.txtpb --help       one machine alone, without a "
    "federation\n"
    "  koinon aggregate --help                rules on files, by hand\n"
    "\n"
    "Which coordinator: --coordinator HOST:PORT or KOINON_COORDINATOR.\n"
    "Who you are: --certs DIR (or KOINON_CERTS) and --identity NAME.\n"
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no connection, 4 the "
    "watched\n"
    "job failed or was cancelled.";

}  // namespace

int RunCommandLine(int argc, const char* const* argv) {
  CLI::App app(kDescription, "koinon");
  app.set_version_flag("--version", std::string(kSoftwareVersion));
  app.require_subcommand(1);
  app.footer(kFooter);
  ExitCode exit_code = ExitCode::kOk;
  AddUpCommand(&app, &exit_code);
  AddJobCommands(&app, &exit_code);
  AddNodesCommand(&app, &exit_code);
  AddModelsCommand(&app, &exit_code);
  AddPullCommand(&app, &exit_code);
  AddTrainCommand(&app, &exit_code);
  AddEvaluateCommand(&app, &exit_code);
  AddAggregateCommand(&app, &exit_code);
  AddDhtCommand(&app, &exit_code);
  AddCertsCommand(&app, &exit_code);
  AddBenchCommands(&app, &exit_code);
  AddCompletionCommand(&app, &exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // Help and version are such errors too, with exit code 0.
    return app.exit(error) == 0 ? 0 : static_cast<int>(ExitCode::kUsage);
  }
  return static_cast<int>(exit_code);
}

}  // namespace koinon::cli
