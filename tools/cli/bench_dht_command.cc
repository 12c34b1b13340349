#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "base/log.h"
#include "tools/bench/dht_bench.h"
#include "tools/bench/dht_simulation.h"
#include "tools/cli/bench_commands.h"

namespace koinon::cli {
namespace {

struct DhtOptions {
  tools::DhtBenchOptions bench;
  bool only_plaintext = false;
  bool only_tls = false;
  bool json = false;
  size_t simulate = 0;  // nodes; 0: real ones
  std::vector<std::string> scenarios;
};

ExitCode Simulate(const DhtOptions& options) {
  // Hundreds of nodes warn of what a scenario does to them.
  InitLogging(LogFormat::kText, LogLevel::kError);
  tools::DhtSimulationOptions simulation;
  simulation.nodes = options.simulate;
  simulation.seed = options.bench.seed;
  simulation.scenarios = options.scenarios;
  if (!options.json) {
    std::printf("%s\n", tools::DhtSimulationHeading(simulation).c_str());
    std::fflush(stdout);
  }
  const auto show = [&](const tools::DhtSimulationRow& row) {
    if (options.json) return;
    std::printf("%s\n", tools::DhtSimulationLine(row).c_str());
    std::fflush(stdout);
  };
  const auto report = tools::RunDhtSimulation(simulation, show);
  if (options.json) {
    std::printf("%s", tools::DhtSimulationJson(report).c_str());
  } else {
    std::printf("peak memory %.0f MiB\n", report.peak_rss_mib);
  }
  const bool met =
      std::all_of(report.rows.begin(), report.rows.end(),
                  [](const tools::DhtSimulationRow& row) { return row.met; });
  return met ? ExitCode::kOk : ExitCode::kFailed;
}

ExitCode RunDht(DhtOptions options) {
  if (options.simulate > 0) return Simulate(options);
  options.bench.plaintext = !options.only_tls;
  options.bench.tls = !options.only_plaintext;
  const auto result = tools::MeasureDht(options.bench);
  if (!result.ok()) return Report(result.status());
  std::printf("%s", options.json ? tools::DhtJson(*result).c_str()
                                 : tools::DhtTable(*result).c_str());
  return ExitCode::kOk;
}

}  // namespace

void AddDhtBench(CLI::App* group, ExitCode* exit_code) {
  const auto options = std::make_shared<DhtOptions>();  // and the callback
  CLI::App* command = group->add_subcommand(
      "dht",
      "Records put and found: real nodes over loopback, plaintext beside "
      "mutual TLS, and OpenDHT if it is installed");
  command->add_option("--nodes", options->bench.nodes, "All in this process")
      ->check(CLI::Range(2, 1'000))
      ->capture_default_str();
  command
      ->add_option("--ops", options->bench.operations,
                   "Puts, then as many gets, one after the other")
      ->check(CLI::Range(1, 10'000'000))
      ->capture_default_str();
  command
      ->add_option("--value-bytes", options->bench.value_bytes,
                   "Of each record")
      ->check(CLI::Range(8, 16'000))
      ->capture_default_str();
  command
      ->add_option("--kill", options->bench.kill,
                   "Part of the nodes that die before the last gets; 0: none")
      ->check(CLI::Range(0.0, 0.95))
      ->capture_default_str();
  CLI::Option* const plaintext = command->add_flag(
      "--plaintext", options->only_plaintext, "Plaintext only");
  command->add_flag("--tls", options->only_tls, "Mutual TLS only")
      ->excludes(plaintext);
  command
      ->add_option("--seed", options->bench.seed,
                   "Of the values, of who asks and of who dies")
      ->capture_default_str();
  command
      ->add_option("--python", options->bench.python,
                   "Whose opendht module to compare with (Debian: "
                   "python3-opendht); empty: none")
      ->capture_default_str();
  CLI::Option* const simulate =
      command
          ->add_option(
              "--simulate", options->simulate,
              "Instead: so many nodes on a simulated network, under churn, "
              "deaths, splits, liars and floods")
          ->check(CLI::Range(100, 20'000));
  command
      ->add_option("--scenarios", options->scenarios,
                   "What --simulate runs, of all that it knows: once the nodes "
                   "have joined, each on a copy of that network")
      ->delimiter(',')
      ->check(CLI::IsMember(tools::DhtScenarios()))
      ->needs(simulate);
  command->add_flag("--json", options->json, "Print JSON, for programs");
  command->footer(
      "Answers are checked before anything is timed, and while it is. Leave "
      "the machine\nalone meanwhile.");
  command->callback([options, exit_code] { *exit_code = RunDht(*options); });
}

}  // namespace koinon::cli
