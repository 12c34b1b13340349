#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "tools/bench/round_bench.h"
#include "tools/cli/bench_commands.h"
#include "tools/cli/commands.h"
#include "tools/cli/local_plan.h"
#include "tools/cli/text.h"

namespace koinon::cli {
namespace {

struct Case {
  size_t workers = 0;
  size_t parameters = 0;
};

// "100x1000000" -> 100 workers, a model of 1,000,000 parameters.
absl::StatusOr<Case> ParseCase(const std::string& text) {
  const std::vector<std::string> parts = absl::StrSplit(text, 'x');
  Case parsed;
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &parsed.workers) ||
      !absl::SimpleAtoi(parts[1], &parsed.parameters) || parsed.workers == 0 ||
      parsed.parameters == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--case ", text, ": expected WORKERSxPARAMETERS, such as 100x1000000"));
  }
  return parsed;
}

struct RoundOptions {
  bench::RoundBenchOptions bench;
  std::vector<std::string> cases = {"1x1000",      "10x1000",     "100x1000",
                                    "1000x1000",   "1x1000000",   "10x1000000",
                                    "100x1000000", "1000x1000000"};
  std::string rival;
  size_t pairs = 3;
  size_t idle = 0;
  std::string bin_dir;
  bool json = false;
};

std::string RoundJson(const bench::RoundFigure& f) {
  return absl::StrFormat(
      R"({"workers":%d,"parameters":%d,"rounds":%d,"round_seconds":%g,)"
      R"("results_per_second":%g,"peak_rss_mib":%g,"cpu_seconds":%g,)"
      R"("pulled_mib":%g,"pushed_mib":%g,"spool_mib":%g})",
      f.workers, f.parameters, f.rounds, f.round_seconds, f.results_per_second,
      f.peak_rss_mib, f.cpu_seconds, f.pulled_mib, f.pushed_mib, f.spool_mib);
}

std::string RivalJson(const bench::RivalFigure& f) {
  return absl::StrFormat(
      R"({"ours":%s,"rival_round_seconds":%g,"rival_peak_rss_mib":%g,)"
      R"("round_rate_ratio":%g,"memory_ratio":%g,"pairs":%d})",
      RoundJson(f.ours), f.rival_round_seconds, f.rival_peak_rss_mib,
      f.round_rate_ratio, f.memory_ratio, f.pairs);
}

ExitCode CompareWithRival(const RoundOptions& options,
                          const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    const auto figure = bench::CompareRounds(
        options.bench, options.rival, c.workers, c.parameters, options.pairs);
    if (!figure.ok()) return Report(figure.status());
    if (options.json) {
      std::printf("%s\n", RivalJson(*figure).c_str());
      continue;
    }
    std::printf(
        "%zu workers x %zu parameters: %.2f times the rival's round rate "
        "(ours %.3f s, rival %.3f s), %.3f of its memory (ours %.0f MiB, rival "
        "%.0f MiB); medians of %zu interleaved pairs\n",
        c.workers, c.parameters, figure->round_rate_ratio,
        figure->ours.round_seconds, figure->rival_round_seconds,
        figure->memory_ratio, figure->ours.peak_rss_mib,
        figure->rival_peak_rss_mib, figure->pairs);
    std::fflush(stdout);
  }
  return ExitCode::kOk;
}

ExitCode MeasureAll(const RoundOptions& options,
                    const std::vector<Case>& cases) {
  if (!options.json) {
    std::printf("%8s %10s %9s %10s %9s %8s %10s %10s %9s\n", "workers",
                "parameters", "s/round", "results/s", "peak MiB", "CPU s",
                "pulled MiB", "pushed MiB", "spool MiB");
  }
  for (const Case& c : cases) {
    const auto figure =
        bench::MeasureRounds(options.bench, c.workers, c.parameters);
    if (!figure.ok()) return Report(figure.status());
    if (options.json) {
      std::printf("%s\n", RoundJson(*figure).c_str());
    } else {
      std::printf("%8zu %10zu %9.4f %10.0f %9.1f %8.3f %10.1f %10.1f %9.1f\n",
                  figure->workers, figure->parameters, figure->round_seconds,
                  figure->results_per_second, figure->peak_rss_mib,
                  figure->cpu_seconds, figure->pulled_mib, figure->pushed_mib,
                  figure->spool_mib);
    }
    std::fflush(stdout);
  }
  return ExitCode::kOk;
}

ExitCode MeasureIdleWorkers(const RoundOptions& options) {
  const auto figure = bench::MeasureIdle(options.bench, options.idle);
  if (!figure.ok()) return Report(figure.status());
  if (options.json) {
    std::printf(
        "{\"workers\":%zu,\"connect_seconds\":%g,\"kib_per_worker\":%g}\n",
        figure->workers, figure->connect_seconds, figure->kib_per_worker);
  } else {
    std::printf(
        "%zu idle workers: connected in %.1f s, %.1f KiB of the coordinator's "
        "memory each\n",
        figure->workers, figure->connect_seconds, figure->kib_per_worker);
  }
  return ExitCode::kOk;
}

ExitCode RunRound(RoundOptions options) {
  const auto programs = FindPrograms(
      options.bin_dir, std::filesystem::read_symlink("/proc/self/exe"));
  if (!programs.ok()) return Report(programs.status());
  options.bench.coordinator_binary = programs->coordinator;
  if (options.idle > 0) return MeasureIdleWorkers(options);
  std::vector<Case> cases;
  for (const std::string& text : options.cases) {
    const auto parsed = ParseCase(text);
    if (!parsed.ok()) return Report(parsed.status());
    cases.push_back(*parsed);
  }
  if (!options.rival.empty()) return CompareWithRival(options, cases);
  return MeasureAll(options, cases);
}

}  // namespace

void AddRoundBench(CLI::App* group, ExitCode* exit_code) {
  const auto options = std::make_shared<RoundOptions>();  // and the callback
  options->bench.work_dir = std::filesystem::temp_directory_path();
  CLI::App* command = group->add_subcommand(
      "round",
      "Whole rounds: a coordinator process, real gRPC over loopback "
      "(plaintext), workers that do not train");
  command
      ->add_option("--case", options->cases,
                   "WORKERSxPARAMETERS; repeatable (without it: 1 to 1,000 "
                   "workers, 1k and 1M)")
      ->allow_extra_args(false);
  command
      ->add_option("--rounds", options->bench.rounds,
                   "Measured rounds, after one that is not")
      ->check(CLI::Range(1, 10'000))
      ->capture_default_str();
  command
      ->add_option("--work-dir", options->bench.work_dir,
                   "Where the coordinator's state goes: on a real disk")
      ->capture_default_str();
  using FedAvg = v1::AggregationSpec::FedAvg;
  command
      ->add_option("--arithmetic", options->bench.arithmetic,
                   "Of FedAvg: double (updates are spooled) or fixed_point "
                   "(added on arrival); without it the coordinator's default")
      ->transform(CLI::CheckedTransformer(std::map<std::string, int>{
          {"double", FedAvg::DOUBLE}, {"fixed_point", FedAvg::FIXED_POINT}}));
  command
      ->add_option("--rival", options->rival,
                   "A Python program to run in turns with Koinon, called as "
                   "PROGRAM N P ROUNDS inplace (docs/benchmarks.md)")
      ->check(CLI::ExistingFile);
  command->add_option("--pairs", options->pairs, "Turns with the rival")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command
      ->add_option("--idle", options->idle,
                   "Instead: what so many connected workers that do "
                   "nothing cost")
      ->check(CLI::Range(1, 1'000'000));
  command->add_option("--bin-dir", options->bin_dir,
                      "Where koinon-coordinator is");
  command->add_flag("--json", options->json, "Print JSON, for programs");
  command->callback([options, exit_code] { *exit_code = RunRound(*options); });
}

}  // namespace koinon::cli
