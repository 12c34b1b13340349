#include <CLI/CLI.hpp>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "tools/bench/swarm_bench.h"
#include "tools/bench/swarm_member.h"
#include "tools/bench/swarm_simulation.h"
#include "tools/cli/bench_commands.h"
#include "tools/cli/commands.h"

namespace koinon::cli {
namespace {

struct SwarmOptions {
  bench::SwarmBenchOptions bench;
  std::vector<std::string> sizes = {"100MB", "1GB"};
  bool insecure = false;
  bool kill_coordinator = false;
  std::vector<size_t> simulate;
  bool json = false;
};

// "100MB", "1GB", "4096" (bytes).
absl::StatusOr<int64_t> ParseSize(const std::string& text) {
  static constexpr std::pair<const char*, double> kUnits[] = {
      {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"", 1}};
  for (const auto& [unit, bytes] : kUnits) {
    if (!absl::EndsWith(text, unit)) continue;
    double number = 0;
    const std::string digits =
        text.substr(0, text.size() - std::string(unit).size());
    if (!absl::SimpleAtod(digits, &number) || !(number * bytes >= 1) ||
        number * bytes > 1e12) {
      break;
    }
    return static_cast<int64_t>(number * bytes);
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "--size ", text, ": expected bytes up to 1 TB, such as 100MB or 1GB"));
}

ExitCode Simulate(const SwarmOptions& options) {
  std::printf("%s\n", bench::SwarmSimulationHeading().c_str());
  for (const size_t peers : options.simulate) {
    bench::SwarmSimulationOptions simulation;
    simulation.peers = peers;
    simulation.seed = options.bench.seed;
    const auto report = bench::RunSwarmSimulation(simulation);
    if (!report.ok()) return Report(report.status());
    std::printf("%s\n", bench::SwarmSimulationLine(*report).c_str());
    std::fflush(stdout);
  }
  return ExitCode::kOk;
}

ExitCode RunSwarm(SwarmOptions options) {
  if (!options.simulate.empty()) return Simulate(options);
  options.bench.sizes.clear();
  for (const std::string& text : options.sizes) {
    const auto size = ParseSize(text);
    if (!size.ok()) return Report(size.status());
    options.bench.sizes.push_back(*size);
  }
  options.bench.tls = !options.insecure;
  // A little more than one, for what is under way.
  if (options.kill_coordinator) options.bench.kill_after_copies = 1.1;
  const auto figures = bench::MeasureSwarm("/proc/self/exe", options.bench);
  if (!figures.ok()) return Report(figures.status());
  std::printf("%s", options.json ? bench::SwarmBenchJson(*figures).c_str()
                                 : bench::SwarmBenchTable(*figures).c_str());
  return ExitCode::kOk;
}

// What `swarm` runs as its processes.
void AddMember(CLI::App* group, ExitCode* exit_code) {
  using Role = bench::SwarmMemberOptions::Role;
  struct Options {
    bench::SwarmMemberOptions member;
    bool insecure = false;
  };
  const auto options = std::make_shared<Options>();  // and the callback
  CLI::App* command = group->add_subcommand("swarm-member", "");
  command->group("");  // not for people
  command->add_option("--role", options->member.role)
      ->transform(CLI::CheckedTransformer(
          std::map<std::string, Role>{{"origin", Role::kOrigin},
                                      {"worker", Role::kWorker},
                                      {"mill", Role::kMill},
                                      {"copy", Role::kCopy}}))
      ->required();
  command->add_option("--dir", options->member.dir)->required();
  command->add_option("--name", options->member.name)->required();
  command->add_option("--die-after-copies", options->member.die_after_copies);
  command->add_flag("--insecure", options->insecure);
  command->callback([options, exit_code] {
    options->member.tls = !options->insecure;
    *exit_code = Report(bench::RunSwarmMember(options->member));
  });
}

}  // namespace

void AddSwarmBench(CLI::App* group, ExitCode* exit_code) {
  AddMember(group, exit_code);
  const auto options = std::make_shared<SwarmOptions>();  // and the callback
  CLI::App* command = group->add_subcommand(
      "swarm",
      "A model version spread from the coordinator to workers that pass it on: "
      "time beside what the connections allow and what plain verified copies "
      "take, what leaves the coordinator, memory of a fetch");
  command->add_option("--size", options->sizes, "Of the version: 100MB, 1GB")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--workers", options->bench.workers, "Processes")
      ->check(CLI::Range(2, 1000))
      ->capture_default_str();
  command->add_flag("--insecure", options->insecure,
                    "Plaintext instead of mutual TLS");
  command->add_flag("--kill-coordinator", options->kill_coordinator,
                    "Kill the coordinator's process once 1.1 times the "
                    "version's bytes have left it: mostly each piece is out");
  command
      ->add_option("--dir", options->bench.dir,
                   "Where the files are made, one of each size for each worker "
                   "(without it: the system's temporary folder)")
      ->check(CLI::ExistingDirectory);
  command
      ->add_option("--simulate", options->simulate,
                   "Numbers of peers: simulated slots instead of processes, "
                   "over the lower bound")
      ->check(CLI::Range(1, 1'000'000))
      ->delimiter(',');
  command->add_option("--seed", options->bench.seed, "Of bytes and simulation")
      ->capture_default_str();
  command->add_flag("--json", options->json, "Print JSON, for programs");
  command->footer(
      "loopback: as many bytes as plain streams from each process to the\n"
      "next, from and to nowhere. copy: the same, from a file, verified and\n"
      "to a file, as a fetch has to. Each ratio is of the swarm's time.\n"
      "What a worker has is compared with the original before anything is\n"
      "printed. Leave the machine alone meanwhile: cores and memory are "
      "shared\n"
      "with whatever else runs.\n"
      "Examples:\n"
      "  koinon bench swarm --size 100MB --workers 16\n"
      "  koinon bench swarm --simulate 10,100,1000,10000");
  command->callback([options, exit_code] { *exit_code = RunSwarm(*options); });
}

}  // namespace koinon::cli
