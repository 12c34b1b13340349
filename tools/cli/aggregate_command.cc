#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "base/env.h"
#include "base/status_macros.h"
#include "tools/cli/aggregate.h"
#include "tools/cli/commands.h"
#include "tools/cli/job_file.h"
#include "tools/cli/proto_json.h"
#include "tools/cli/watch_detail.h"

namespace koinon::cli {
namespace {

struct Options {
  AggregateRequest request;
  std::string rule;
  std::optional<std::string> weights;
  std::string instruction_set = "best";
  std::string report = "text";
};

// "600,580,611"
absl::StatusOr<std::vector<double>> ParseWeights(absl::string_view text) {
  std::vector<double> weights;
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    weights.emplace_back();
    if (absl::SimpleAtod(part, &weights.back())) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "--weights is \"", text, "\", of which number ", weights.size(),
        " is \"", part, "\", expected numbers with commas between them"));
  }
  return weights;
}

absl::StatusOr<AggregateOutcome> Aggregate(const Options& options) {
  AggregateRequest request = options.request;
  if (options.weights.has_value()) {
    ABSL_ASSIGN_OR_RETURN(request.weights, ParseWeights(*options.weights));
  }
  ABSL_RETURN_IF_ERROR(
      ParseTextArgument(RealEnv(), "--rule", options.rule, &request.spec));
  ABSL_ASSIGN_OR_RETURN(
      request.aggregator.instruction_set,
      aggregation::InstructionSetFromName(options.instruction_set));
  return AggregateFiles(RealEnv(), request);
}

ExitCode RunAggregate(const Options& options) {
  const auto outcome = Aggregate(options);
  if (!outcome.ok()) return Report(outcome.status());
  if (options.weights.has_value() && !outcome->used_weights) {
    std::fprintf(stderr,
                 "koinon: --weights has no effect: %s with these "
                 "options ignores example counts\n",
                 outcome->report.rule().c_str());
  }
  if (options.report == "json") {
    std::printf("%s", ToJson(outcome->report).c_str());
  } else if (options.report == "text") {
    v1::RoundReport report;
    *report.mutable_aggregation() = outcome->report;
    std::printf("%s: step %lld\n", options.request.output.c_str(),
                static_cast<long long>(outcome->step));
    const size_t all = outcome->report.updates_size();
    for (const std::string& line : DetailLines(report, all)) {
      std::printf("%s\n", line.c_str());
    }
  }
  return ExitCode::kOk;
}

void AddInputs(CLI::App* command, Options* options) {
  AggregateRequest& request = options->request;
  command
      ->add_option("UPDATE", request.updates,
                   "Updates (safetensors, F32, one layout). The name of a file "
                   "without folders and .safetensors is its worker's id; they "
                   "are aggregated in ascending order of ids, whatever their "
                   "order here")
      ->required();
  command
      ->add_option("--rule", options->rule,
                   "An AggregationSpec in protobuf text, or @FILE "
                   "(docs/aggregation.md)")
      ->required();
  command->add_option("--weights", options->weights,
                      "Example counts, one for each file in their order here, "
                      "with commas between them; without: 1 each");
  command->add_option("--base", request.base,
                      "The model that the updates start from (safetensors): "
                      "the output is it and the step");
  command->add_flag("--models", request.models,
                    "The files are whole models: the base is subtracted");
}

void AddOutputs(CLI::App* command, Options* options) {
  AggregateRequest& request = options->request;
  command
      ->add_option("-o,--output", request.output,
                   "The result (safetensors); never one of the inputs")
      ->required();
  command
      ->add_option("--report", options->report,
                   "What the rule decided: text, json or none")
      ->check(CLI::IsMember({"text", "json", "none"}))
      ->capture_default_str();
  command->add_option("--state", request.state_dir,
                      "A folder that keeps the server optimizer's state (and "
                      "the rule's) from step to step; without, this is the "
                      "first step and none is kept");
}

void AddSettings(CLI::App* command, Options* options) {
  AggregateRequest& request = options->request;
  command
      ->add_option("--step", request.step,
                   "The step's number without --state: a job's round")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 53));
  command
      ->add_option("--seed", request.seed,
                   "A job's seed, for rules that leave something to chance")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command
      ->add_option("--instruction-set", options->instruction_set,
                   "best, avx512, avx2 or portable")
      ->capture_default_str();
  command->add_option("--threads", request.threads, "Threads to compute with")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
}

}  // namespace

void AddAggregateCommand(CLI::App* app, ExitCode* exit_code) {
  const auto options = std::make_shared<Options>();  // shared with the callback
  CLI::App* command = app->add_subcommand(
      "aggregate",
      "Aggregates update files on this machine, as the coordinator would");
  AddInputs(command, options.get());
  AddOutputs(command, options.get());
  AddSettings(command, options.get());
  command->footer(
      "Examples:\n"
      "  koinon aggregate --rule 'krum { f: 1 }' w*.safetensors \\\n"
      "    -o krum.safetensors --report json\n"
      "  koinon aggregate --rule 'fedavg {} server_optimizer { fedadam {} }' "
      "\\\n"
      "    --base 7.safetensors --models --weights 600,580,611 --state state "
      "\\\n"
      "    a.safetensors b.safetensors c.safetensors -o 8.safetensors");
  command->callback(
      [options, exit_code] { *exit_code = RunAggregate(*options); });
}

}  // namespace koinon::cli
