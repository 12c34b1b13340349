#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/digest.h"
#include "base/env.h"
#include "tools/cli/commands.h"
#include "tools/cli/connection.h"
#include "tools/cli/model_part.h"
#include "tools/cli/proto_json.h"
#include "tools/cli/pull.h"
#include "tools/cli/text.h"

namespace koinon::cli {
namespace {

struct Options {
  ConnectionOptions connection;
  bool json = false;
  std::string subject;  // a job, or a model
  std::string output;
  int64_t max_bytes = int64_t{1} << 40;
  bool model_only = false;
};

ExitCode RunModels(const Options& options) {
  const auto client = Connect(options.connection);
  if (!client.ok()) return Report(client.status());
  const auto reply = (*client)->ListModels(options.subject);
  if (!reply.ok()) return Report(reply.status());
  if (options.json) {
    std::printf("%s", ToJson(*reply).c_str());
    return ExitCode::kOk;
  }
  TextTable table({{"model"},
                   {"size", TextTable::kRight},
                   {"workers", TextTable::kRight},
                   {"examples", TextTable::kRight},
                   {"rule"},
                   {"sha256"}});
  for (const v1::ModelManifest& model : reply->models()) {
    const auto digest = Digest::FromBytes(model.digest());
    table.AddRow({absl::StrCat(model.job(), "@", model.version()),
                  FormatBytes(model.size_bytes()),
                  absl::StrCat(model.provenance().participants()),
                  absl::StrCat(model.provenance().examples()),
                  model.provenance().rule(),
                  digest.ok() ? digest->ToHex() : "-"});
  }
  std::printf("%s", table.Render().c_str());
  return ExitCode::kOk;
}

// A bar on standard error, if that is a terminal.
class PullBar {
 public:
  void operator()(int64_t done, int64_t total) {
    const absl::Time now = absl::Now();
    if (!terminal_ || (done < total && now - last_ < absl::Milliseconds(100))) {
      return;
    }
    last_ = now;
    const double fraction =
        total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 1;
    std::fprintf(stderr, "\r%s %s of %s\x1b[K%s",
                 ProgressBar(fraction, 40).c_str(), FormatBytes(done).c_str(),
                 FormatBytes(total).c_str(), done >= total ? "\n" : "");
  }

 private:
  const bool terminal_ = isatty(STDERR_FILENO) == 1;
  absl::Time last_ = absl::InfinitePast();
};

ExitCode RunPull(const Options& options) {
  const auto model = ParseModelRef(options.subject);
  if (!model.ok()) return Report(model.status());
  const auto client = Connect(options.connection);
  if (!client.ok()) return Report(client.status());
  const ModelSource source = [&](const v1::PullModelRequest& request,
                                 const Client::OnPart& on_part) {
    return (*client)->PullModel(request, on_part);
  };
  // The manifest speaks of the whole version: what is to be cut is fetched
  // under another name.
  const std::string path =
      options.model_only ? options.output + ".whole" : options.output;
  const auto manifest = PullModelToFile(RealEnv(), source, *model, path,
                                        options.max_bytes, PullBar());
  if (!manifest.ok()) return Report(manifest.status());
  if (options.model_only) {
    const absl::Status kept = KeepModelPart(RealEnv(), path, options.output);
    if (!kept.ok()) return Report(kept);
  }
  if (options.json) {
    v1::ModelManifest brief = *manifest;
    brief.clear_chunk_digests();
    std::printf("%s", ToJson(brief).c_str());
  } else {
    std::printf("%s@%lld, %s, in %s\n", Printable(manifest->job()).c_str(),
                static_cast<long long>(manifest->version()),
                FormatBytes(manifest->size_bytes()).c_str(),
                options.output.c_str());
  }
  return ExitCode::kOk;
}

}  // namespace

void AddModelCommands(CLI::App* app, ExitCode* exit_code) {
  const auto list = std::make_shared<Options>();  // shared with the callback
  CLI::App* models =
      app->add_subcommand("models", "Lists the published model versions");
  AddConnectionFlags(models, &list->connection);
  models->add_option("JOB", list->subject, "Only this job's");
  models->add_flag("--json", list->json, "Print JSON, for programs");
  models->callback([list, exit_code] { *exit_code = RunModels(*list); });

  const auto options = std::make_shared<Options>();
  CLI::App* pull = app->add_subcommand(
      "pull", "Fetches a model version and verifies every byte");
  AddConnectionFlags(pull, &options->connection);
  pull->add_option("MODEL", options->subject,
                   "JOB or JOB@VERSION; without a version, the newest")
      ->required();
  pull->add_option("--output,-o", options->output, "The file to make")
      ->required();
  pull->add_option("--max-bytes", options->max_bytes,
                   "Refuse a model larger than this")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  pull->add_flag("--model-only", options->model_only,
                 "Leave out what follows the model in versions of jobs with\n"
                 "training.scaffold");
  pull->add_flag("--json", options->json, "Print the manifest as JSON");
  pull->footer(
      "What has arrived is kept in FILE.partial: after an interruption the "
      "same\n"
      "command goes on where it stopped. The file is safetensors:\n"
      "  koinon pull digits@12 -o digits.safetensors\n"
      "  python3 -c 'from safetensors.numpy import load_file;\n"
      "              print(load_file(\"digits.safetensors\").keys())'");
  pull->callback([options, exit_code] { *exit_code = RunPull(*options); });
}

}  // namespace koinon::cli
