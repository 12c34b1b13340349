#include <CLI/CLI.hpp>
#include <cstdio>
#include <limits>
#include <memory>
#include <string>

#include "absl/strings/str_format.h"
#include "base/env.h"
#include "base/status_macros.h"
#include "tools/cli/commands.h"
#include "tools/cli/evaluate.h"
#include "tools/cli/job_file.h"
#include "tools/cli/proto_json.h"

namespace koinon::cli {
namespace {

struct Options {
  std::string model;
  std::string job;
  std::string dataset;
  EvaluateOptions evaluate;
  double min_accuracy = 0;
  bool json = false;
};

absl::StatusOr<v1::Metrics> Evaluate(const Options& options) {
  ABSL_ASSIGN_OR_RETURN(const v1::JobSpec job,
                        ReadJobFile(RealEnv(), options.job));
  worker::DatasetConfig dataset;
  ABSL_RETURN_IF_ERROR(
      ParseTextArgument(RealEnv(), "--dataset", options.dataset, &dataset));
  return EvaluateModel(RealEnv(), options.model, job, dataset,
                       options.evaluate);
}

ExitCode RunEvaluate(const Options& options) {
  const auto metrics = Evaluate(options);
  if (!metrics.ok()) return Report(metrics.status());
  if (options.json) {
    std::printf("%s", ToJson(*metrics).c_str());
  } else {
    std::printf(
        "%s%s\n",
        metrics->has_accuracy()
            ? absl::StrFormat("accuracy %.4f, ", metrics->accuracy()).c_str()
            : "",
        absl::StrFormat("loss %.4f over %d examples", metrics->loss(),
                        metrics->examples())
            .c_str());
  }
  if (options.min_accuracy <= 0) return ExitCode::kOk;
  if (metrics->has_accuracy() && metrics->accuracy() >= options.min_accuracy) {
    return ExitCode::kOk;
  }
  return Report(absl::FailedPreconditionError(
      absl::StrFormat("%s: accuracy %.4f, wanted at least %.4f", options.model,
                      metrics->accuracy(), options.min_accuracy)));
}

}  // namespace

void AddEvaluateCommand(CLI::App* app, ExitCode* exit_code) {
  const auto options = std::make_shared<Options>();  // shared with the callback
  CLI::App* command = app->add_subcommand(
      "evaluate", "Measures a model file on a dataset, on this machine");
  command->add_option("MODEL", options->model, "The model (safetensors)")
      ->required();
  command->add_option("--job", options->job, "The job file that it comes from")
      ->required();
  command
      ->add_option("--dataset", options->dataset,
                   "The examples: a DatasetConfig in protobuf text "
                   "(docs/data.md)")
      ->required();
  command->add_flag("--held-out", options->evaluate.held_out,
                    "Only what the dataset holds out, in place of all");
  command
      ->add_option("--max-examples", options->evaluate.max_examples,
                   "At most so many examples, spread over the data. Zero: all")
      ->check(CLI::Range(int64_t{0}, std::numeric_limits<int64_t>::max()));
  command
      ->add_option("--threads", options->evaluate.threads,
                   "Threads to compute with")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command
      ->add_option("--max-model-bytes", options->evaluate.max_model_bytes,
                   "Refuse a model larger than this")
      ->capture_default_str();
  command
      ->add_option("--min-accuracy", options->min_accuracy,
                   "Fail below this accuracy")
      ->check(CLI::Range(0.0, 1.0));
  command->add_flag("--json", options->json, "Print JSON, for programs");
  command->footer(
      "Example:\n"
      "  koinon evaluate digits.safetensors --job digits.txtpb --dataset \\\n"
      "    'name: \"test\" source { csv { path: \"test.csv\" label: \"label\" "
      "} }'\n"
      "  koinon evaluate gpt.safetensors --job gpt.txtpb --dataset "
      "@text.txtpb \\\n"
      "    --held-out --threads 2");
  command->callback(
      [options, exit_code] { *exit_code = RunEvaluate(*options); });
}

}  // namespace koinon::cli
