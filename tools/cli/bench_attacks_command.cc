#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/env.h"
#include "base/status_macros.h"
#include "tools/bench/attack_bench.h"
#include "tools/cli/bench_commands.h"
#include "worker/data/dataset.h"

namespace koinon::cli {
namespace {

struct AttacksOptions {
  tools::AttackBenchOptions bench;
  std::string data_dir;
  std::string format = "markdown";
};

absl::StatusOr<worker::LocalData> LoadMnist(const std::string& dir) {
  worker::DatasetConfig config;
  config.set_name("mnist");
  const auto set_source = [&dir](const char* part, worker::Source* source) {
    source->mutable_idx()->set_images(
        absl::StrCat(dir, "/", part, "-images-idx3-ubyte.gz"));
    source->mutable_idx()->set_labels(
        absl::StrCat(dir, "/", part, "-labels-idx1-ubyte.gz"));
  };
  set_source("train", config.mutable_source());
  set_source("t10k", config.mutable_held_out_source());
  return worker::LoadLocalData(RealEnv(), config);
}

void ShowProgress(size_t done, size_t wanted) {
  if (isatty(STDERR_FILENO) != 1) return;
  std::fprintf(stderr, "\r%zu of %zu runs%s", done, wanted,
               done == wanted ? "\n" : "");
}

ExitCode RunAttacks(const AttacksOptions& options) {
  const auto data = LoadMnist(options.data_dir);
  if (!data.ok()) return Report(data.status());
  const auto figures = tools::MeasureAttacks(data->train, data->held_out,
                                             options.bench, ShowProgress);
  if (!figures.ok()) return Report(figures.status());
  std::string text;
  if (options.format == "csv") {
    text = tools::AttackCsv(*figures);
  } else if (options.format == "json") {
    text = tools::AttackJson(*figures);
  } else {
    text = tools::AttackMarkdown(*figures);
  }
  std::printf("%s", text.c_str());
  return ExitCode::kOk;
}

void AddFederationOptions(CLI::App* command,
                          tools::FederationOptions* federation) {
  command->add_option("--workers", federation->workers, "Workers, all of them")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_option("--rounds", federation->rounds, "Rounds of each run")
      ->check(CLI::Range(1, 100'000))
      ->capture_default_str();
  command
      ->add_option("--alpha", federation->alpha,
                   "Of a Dirichlet split of the classes over the workers; 0: "
                   "every worker has the same mixture (IID)")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command
      ->add_option("--hidden", federation->hidden,
                   "Units of the model's hidden layer; 0: logistic regression")
      ->check(CLI::Range(0, 65536))
      ->capture_default_str();
  command
      ->add_option("--batch", federation->batch_size,
                   "Examples per step of the workers")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  command
      ->add_option("--learning-rate", federation->learning_rate,
                   "Of the workers' SGD, one pass over their data a round")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command
      ->add_option("--seed", federation->seed,
                   "Of split, model, training and attacks")
      ->capture_default_str();
}

}  // namespace

void AddAttacksBench(CLI::App* group, ExitCode* exit_code) {
  const auto options = std::make_shared<AttacksOptions>();  // and the callback
  options->bench.attacks = tools::AllAttackNames();
  CLI::App* command = group->add_subcommand(
      "attacks",
      "Final accuracy on MNIST for each aggregation rule under each attack, "
      "simulated in this process");
  command
      ->add_option("--data", options->data_dir,
                   "Folder with MNIST's four files (*-ubyte.gz)")
      ->required()
      ->check(CLI::ExistingDirectory);
  command
      ->add_option("--attackers", options->bench.attackers,
                   "How many workers attack, and what f the rules are told; "
                   "several: a table for each")
      ->check(CLI::Range(0, 999))
      ->delimiter(',')
      ->capture_default_str();
  command
      ->add_option("--rules", options->bench.rules,
                   "Rules, each with pre-aggregations before it: nnm+median, "
                   "norm_clipping+fedavg, arc+krum")
      ->delimiter(',')
      ->capture_default_str();
  command
      ->add_option("--attacks", options->bench.attacks, "What the attackers do")
      ->delimiter(',')
      ->capture_default_str();
  AddFederationOptions(command, &options->bench.federation);
  command
      ->add_option("--clip-norm", options->bench.clip_norm, "Of norm_clipping")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--tau", options->bench.tau, "Of centered_clipping")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command
      ->add_option("--threads", options->bench.threads,
                   "Runs at the same time; the figures do not depend on it")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command->add_option("--format", options->format, "markdown, csv or json")
      ->check(CLI::IsMember({"markdown", "csv", "json"}))
      ->capture_default_str();
  command->footer(
      "The workers train with Koinon's own kernels on shares of the 8,000\n"
      "training digits; the rules are the coordinator's; attackers know every\n"
      "honest update of the round. The same seed gives the same table.\n"
      "Examples:\n"
      "  koinon bench attacks --data mnist10k --threads 2\n"
      "  koinon bench attacks --data mnist10k --attackers 0,2,4,6,8 \\\n"
      "      --rules fedavg,nnm+median --attacks sign_flip --format csv\n"
      "  koinon bench attacks --data mnist10k --alpha 0.5 --attackers 4");
  command->callback(
      [options, exit_code] { *exit_code = RunAttacks(*options); });
}

}  // namespace koinon::cli
