#ifndef KOINON_TOOLS_CLI_COMPLETION_H_
#define KOINON_TOOLS_CLI_COMPLETION_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace CLI {
class App;
}

namespace koinon::cli {

// A command line's words, as far as completion needs them.
struct CommandTree {
  struct Flag {
    std::string name;  // "--workers"
    std::string description;
    bool takes_value = false;
  };
  std::string name;
  std::string description;
  std::vector<Flag> flags;
  std::vector<CommandTree> commands;
};

CommandTree TreeOf(const CLI::App& app);

// A script that the shell reads once: "bash", "zsh" or "fish". INVALID_ARGUMENT
// for any other shell lists these.
absl::StatusOr<std::string> CompletionScript(const CommandTree& root,
                                             absl::string_view shell);

}  // namespace koinon::cli

#endif  // KOINON_TOOLS_CLI_COMPLETION_H_
