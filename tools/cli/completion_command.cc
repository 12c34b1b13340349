#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>

#include "tools/cli/commands.h"
#include "tools/cli/completion.h"

namespace koinon::cli {

void AddCompletionCommand(CLI::App* app, ExitCode* exit_code) {
  const auto shell =
      std::make_shared<std::string>();  // shared with the callback
  CLI::App* command =
      app->add_subcommand("completion", "Prints a shell's completion script");
  command->add_option("SHELL", *shell, "bash, zsh or fish")->required();
  command->footer(
      "Examples:\n"
      "  source <(koinon completion bash)\n"
      "  koinon completion zsh > \"${fpath[1]}/_koinon\"\n"
      "  koinon completion fish > ~/.config/fish/completions/koinon.fish");
  command->callback([app, shell, exit_code] {
    const auto script = CompletionScript(TreeOf(*app), *shell);
    if (script.ok()) std::fputs(script->c_str(), stdout);
    *exit_code = Report(script.status());
  });
}

}  // namespace koinon::cli
