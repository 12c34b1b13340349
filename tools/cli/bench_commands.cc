#include "tools/cli/bench_commands.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "kernels/train_bench.h"
#include "tools/bench/aggregate_bench.h"
#include "tools/bench/disk_round.h"
#include "tools/cli/commands.h"
#include "tools/cli/text.h"

namespace koinon::cli {
namespace {

// "10x1000000" -> 10 updates of 1,000,000 parameters.
absl::StatusOr<tools::AggregateCase> ParseCase(const std::string& text) {
  const std::vector<std::string> parts = absl::StrSplit(text, 'x');
  tools::AggregateCase parsed;
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &parsed.updates) ||
      !absl::SimpleAtoi(parts[1], &parsed.parameters)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--case ", text, ": expected UPDATESxPARAMETERS, such as 10x1000000"));
  }
  return parsed;
}

struct AggregateOptions {
  tools::AggregateBenchOptions bench;
  std::vector<std::string> cases;
  std::vector<size_t> updates;     // --n
  std::vector<size_t> parameters;  // --params
  bool from_disk = false;
  std::string dir;
  bool json = false;
};

// --case as given; --n times --params, each with a default; else `fallback`.
absl::StatusOr<std::vector<tools::AggregateCase>> CasesOf(
    const AggregateOptions& options,
    const std::vector<tools::AggregateCase>& fallback) {
  std::vector<tools::AggregateCase> cases;
  for (const std::string& text : options.cases) {
    const auto parsed = ParseCase(text);
    if (!parsed.ok()) return parsed.status();
    cases.push_back(*parsed);
  }
  if (!cases.empty()) return cases;
  if (options.updates.empty() && options.parameters.empty()) return fallback;
  const std::vector<size_t> updates =
      options.updates.empty() ? std::vector<size_t>{5, 10, 32, 64, 100}
                              : options.updates;
  const std::vector<size_t> parameters = options.parameters.empty()
                                             ? std::vector<size_t>{1'000'000}
                                             : options.parameters;
  for (const size_t p : parameters) {
    for (const size_t n : updates) cases.push_back({n, p});
  }
  return cases;
}

ExitCode RunFromDisk(const AggregateOptions& options, bool rules_given) {
  tools::DiskRoundOptions disk;
  const auto cases = CasesOf(options, {disk.size});
  if (!cases.ok()) return Report(cases.status());
  if (rules_given) disk.rules = options.bench.rules;
  disk.dir = options.dir;
  std::vector<tools::DiskRoundFigure> all;
  disk.threads = options.bench.threads;
  for (const tools::AggregateCase& size : *cases) {
    disk.size = size;
    const auto figures = tools::MeasureDiskRounds(disk);
    if (!figures.ok()) return Report(figures.status());
    all.insert(all.end(), figures->begin(), figures->end());
  }
  std::printf("%s", options.json ? tools::DiskRoundJson(all).c_str()
                                 : tools::DiskRoundTable(all).c_str());
  return ExitCode::kOk;
}

ExitCode RunAggregate(AggregateOptions options) {
  const auto cases = CasesOf(options, options.bench.cases);
  if (!cases.ok()) return Report(cases.status());
  options.bench.cases = *cases;
  const auto figures = tools::MeasureAggregate(options.bench);
  if (!figures.ok()) return Report(figures.status());
  std::printf("%s", options.json ? tools::AggregateJson(*figures).c_str()
                                 : tools::AggregateTable(*figures).c_str());
  return ExitCode::kOk;
}

void AddCaseOptions(CLI::App* command, AggregateOptions* options) {
  CLI::Option* const cases =
      command
          ->add_option("--case", options->cases,
                       "UPDATESxPARAMETERS; repeatable (without it: 5, 10, 32, "
                       "64 and 100 of 1M, 10 of 10M)")
          ->allow_extra_args(false);
  command
      ->add_option("--n", options->updates,
                   "Numbers of updates, each with each of --params (without "
                   "it: 5,10,32,64,100)")
      ->check(CLI::Range(1, 1'000'000))
      ->delimiter(',')
      ->excludes(cases);
  command
      ->add_option("--params", options->parameters,
                   "Numbers of parameters, each with each of --n (without it: "
                   "1000000)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40))
      ->delimiter(',')
      ->excludes(cases);
  command->add_option("--threads", options->bench.threads, "Thread counts")
      ->check(CLI::Range(1, 1024))
      ->delimiter(',')
      ->capture_default_str();
}

void AddAggregate(CLI::App* group, ExitCode* exit_code) {
  const auto options =
      std::make_shared<AggregateOptions>();  // and the callback
  CLI::App* command = group->add_subcommand(
      "aggregate",
      "Aggregation rules from memory: against the memory's speed, the "
      "processor's and NumPy");
  CLI::Option* const rules =
      command
          ->add_option("--rules", options->bench.rules,
                       "Which; each is compared with NumPy's ways to the same "
                       "answer (default with --from-disk: "
                       "median,trimmed_mean,krum)")
          ->delimiter(',')
          ->capture_default_str();
  AddCaseOptions(command, options.get());
  CLI::Option* const repetitions =
      command
          ->add_option("--repetitions", options->bench.repetitions,
                       "Interleaved repetitions, of which ratios are the "
                       "medians; fewer, but at least 3, where they take long")
          ->check(CLI::Range(1, 10'000))
          ->capture_default_str();
  CLI::Option* const python =
      command
          ->add_option("--python", options->bench.python,
                       "Whose NumPy to compare with; empty: none")
          ->capture_default_str();
  CLI::Option* const from_disk =
      command
          ->add_flag("--from-disk", options->from_disk,
                     "The memory of rounds whose updates lie in a spool on "
                     "disk, as a coordinator's do (without a case: 100x10000000"
                     ", 4 GB)")
          ->excludes(repetitions)
          ->excludes(python);
  command
      ->add_option("--dir", options->dir,
                   "Where --from-disk makes its spool (without it: the "
                   "system's temporary folder)")
      ->check(CLI::ExistingDirectory)
      ->needs(from_disk);
  command->add_flag("--json", options->json, "Print JSON, for programs");
  command->footer(
      "Answers are compared before anything is timed. Leave the machine alone\n"
      "meanwhile: memory and cores are shared with whatever else runs.\n"
      "Examples:\n"
      "  koinon bench aggregate --rules median,krum --n 10,100 --threads 1\n"
      "  koinon bench aggregate --rules fedavg --case 1000x1000000 --json\n"
      "  koinon bench aggregate --from-disk --threads 2");
  command->callback([options, rules, exit_code] {
    *exit_code = options->from_disk ? RunFromDisk(*options, !rules->empty())
                                    : RunAggregate(*options);
  });
}

struct TrainOptions {
  kernels::TrainBenchOptions bench;
  bool json = false;
};

std::string TrainJson(const std::vector<kernels::TrainFigure>& figures) {
  std::vector<std::string> rows;
  for (const kernels::TrainFigure& f : figures) {
    rows.push_back(absl::StrFormat(
        R"({"model":"%s","precision":"%s","threads":%d,"batch_size":%d,)"
        R"("samples_per_second":%g,"step_ms":%g,"gflops":%g,)"
        R"("peak_gflops":%g,"fraction_of_peak":%g)",
        f.model, f.precision, f.threads, f.batch_size, f.samples_per_second,
        f.step_ms, f.gflops, f.peak_gflops, f.fraction_of_peak));
    if (f.floor_ms > 0) {
      absl::StrAppendFormat(&rows.back(), R"(,"floor_ms":%g,"times_floor":%g)",
                            f.floor_ms, f.times_floor);
    }
    rows.back() += "}";
  }
  return absl::StrCat("[", absl::StrJoin(rows, ",\n "), "]\n");
}

std::string TrainTable(const std::vector<kernels::TrainFigure>& figures) {
  const auto measured = [](double value) {
    return value > 0 ? absl::StrFormat("%.3f", value) : std::string("-");
  };
  TextTable table({{"model"},
                   {"precision"},
                   {"threads", TextTable::kRight},
                   {"batch", TextTable::kRight},
                   {"samples/s", TextTable::kRight},
                   {"ms/step", TextTable::kRight},
                   {"GFLOP/s", TextTable::kRight},
                   {"of peak", TextTable::kRight},
                   {"floor ms", TextTable::kRight},
                   {"times floor", TextTable::kRight}});
  for (const kernels::TrainFigure& f : figures) {
    table.AddRow({f.model, f.precision, absl::StrCat(f.threads),
                  absl::StrCat(f.batch_size),
                  absl::StrFormat("%.0f", f.samples_per_second),
                  absl::StrFormat("%.3f", f.step_ms),
                  absl::StrFormat("%.1f", f.gflops),
                  absl::StrFormat("%.0f %%", 100 * f.fraction_of_peak),
                  measured(f.floor_ms), measured(f.times_floor)});
  }
  return table.Render();
}

ExitCode RunTrain(const TrainOptions& options) {
  const auto figures = kernels::MeasureTraining(options.bench);
  if (!figures.ok()) return Report(figures.status());
  std::printf("%s", options.json ? TrainJson(*figures).c_str()
                                 : TrainTable(*figures).c_str());
  return ExitCode::kOk;
}

void AddTrain(CLI::App* group, ExitCode* exit_code) {
  const auto options = std::make_shared<TrainOptions>();  // and the callback
  CLI::App* command = group->add_subcommand(
      "train", "Training steps of one worker: samples per second");
  command
      ->add_option("--models", options->bench.models,
                   "cnn, mlp, resnet20, mobilenet_v3_small (forward only), "
                   "gpt2-124m (some 3 GiB for each configuration)")
      ->delimiter(',')
      ->capture_default_str();
  command
      ->add_option("--precisions", options->bench.precisions,
                   "fp32, bf16 (where the processor has it)")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--threads", options->bench.threads, "Thread counts")
      ->check(CLI::Range(1, 1024))
      ->delimiter(',')
      ->capture_default_str();
  command
      ->add_option("--batch", options->bench.batch_size,
                   "Examples per step; 0: 32, mobilenet_v3_small 1, "
                   "gpt2-124m 4")
      ->check(CLI::Range(size_t{0}, size_t{1} << 20))
      ->capture_default_str();
  command->add_flag("--floor", options->bench.floor,
                    "Measure the same products as bare oneDNN primitives and "
                    "the optimizer too, in turn");
  command
      ->add_option("--repetitions", options->bench.repetitions,
                   "Interleaved repetitions; figures are their medians")
      ->check(CLI::Range(1, 10'000))
      ->capture_default_str();
  command->add_flag("--json", options->json, "Print JSON, for programs");
  command->callback([options, exit_code] { *exit_code = RunTrain(*options); });
}

}  // namespace

void AddBenchCommands(CLI::App* app, ExitCode* exit_code) {
  CLI::App* group =
      app->add_subcommand("bench", "Measures Koinon on this machine");
  group->require_subcommand(1);
  AddAggregate(group, exit_code);
  AddTrain(group, exit_code);
  AddDhtBench(group, exit_code);
  AddRoundBench(group, exit_code);
  AddMnistBench(group, exit_code);
  AddMpiBench(group, exit_code);
  AddAttacksBench(group, exit_code);
  AddSwarmBench(group, exit_code);
}

}  // namespace koinon::cli
