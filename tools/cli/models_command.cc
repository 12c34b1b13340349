#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "tools/cli/commands.h"
#include "tools/cli/connection.h"
#include "tools/cli/lineage.h"
#include "tools/cli/pull.h"
#include "tools/cli/text.h"

namespace koinon::cli {
namespace {

struct Options {
  ConnectionOptions connection;
  bool json = false;
  std::string subject;  // a job, or a model
};

ExitCode RunModels(const Options& options) {
  const auto client = Connect(options.connection);
  if (!client.ok()) return Report(client.status());
  const auto reply = (*client)->ListModels(options.subject);
  if (!reply.ok()) return Report(reply.status());
  std::printf("%s", options.json ? LineageJson(*reply).c_str()
                                 : LineageTable(*reply).c_str());
  return ExitCode::kOk;
}

ExitCode RunPin(const Options& options, bool pin) {
  const auto model = ParseModelRef(options.subject);
  if (!model.ok()) return Report(model.status());
  if (model->version < 0) {
    return Report(absl::InvalidArgumentError(
        absl::StrCat("model ", options.subject,
                     ": expected JOB@VERSION, the version a number from 0")));
  }
  const auto client = Connect(options.connection);
  if (!client.ok()) return Report(client.status());
  const auto reply = (*client)->PinModel(model->job, model->version, pin);
  if (!reply.ok()) return Report(reply.status());
  std::printf("%s@%lld is %s\n", Printable(reply->job()).c_str(),
              static_cast<long long>(reply->version()),
              reply->pinned() ? "pinned" : "not pinned");
  return ExitCode::kOk;
}

// Without a subcommand the list is meant.
void AddPinCommand(CLI::App* models, const char* name, const char* description,
                   bool pin, ExitCode* exit_code) {
  const auto options = std::make_shared<Options>();  // shared with the callback
  CLI::App* command = models->add_subcommand(name, description);
  AddConnectionFlags(command, &options->connection);
  command->add_option("MODEL", options->subject, "JOB@VERSION")->required();
  command->callback(
      [options, pin, exit_code] { *exit_code = RunPin(*options, pin); });
}

}  // namespace

void AddModelsCommand(CLI::App* app, ExitCode* exit_code) {
  const auto options = std::make_shared<Options>();  // shared with the callback
  CLI::App* models = app->add_subcommand(
      "models", "Lists the published model versions and what they came from");
  AddConnectionFlags(models, &options->connection);
  models->add_option("JOB", options->subject, "Only this job's");
  models->add_flag("--json", options->json, "Print JSON, for programs");
  AddPinCommand(models, "pin", "Keeps a version whatever the policy says", true,
                exit_code);
  AddPinCommand(models, "unpin", "Leaves a version to the policy again", false,
                exit_code);
  models->require_subcommand(0, 1);
  models->footer(
      "A version is named by its job and number; its parent and signer by the\n"
      "first bytes of their digest and key. Examples:\n"
      "  koinon models digits\n"
      "  koinon models pin digits@12");
  models->callback([models, options, exit_code] {
    if (models->get_subcommands().empty()) *exit_code = RunModels(*options);
  });
}

}  // namespace koinon::cli
