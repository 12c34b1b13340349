#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/clock.h"
#include "base/status_macros.h"
#include "tools/bench/mpi_bench.h"
#include "tools/cli/bench_commands.h"
#include "tools/cli/commands.h"
#include "worker/collective/mpi_communicator.h"
#include "worker/collective/mpi_session.h"

namespace koinon::cli {
namespace {

struct MpiOptions {
  bench::MpiBenchOptions bench;
  std::vector<double> megabytes = {1, 10, 100, 500};
  int ranks = 2;
  bool across_nodes = false;
  bool json = false;
};

// This program again, with the same arguments, as ranks. Returns on failure
// only.
absl::Status BecomeMpirun(const MpiOptions& options) {
  char self[PATH_MAX] = {};
  if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0) {
    return absl::ErrnoToStatus(errno, "/proc/self/exe");
  }
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  const std::string joined{std::istreambuf_iterator<char>(file), {}};
  std::vector<std::string> words = {"mpirun",
                                    "-n",
                                    absl::StrCat(options.ranks),
                                    "--oversubscribe",
                                    "--mca",
                                    "oob_tcp_if_include",
                                    "lo"};
  if (options.across_nodes) {
    words.insert(words.end(),
                 {"--mca", "pml", "ob1", "--mca", "btl", "self,tcp", "--mca",
                  "btl_tcp_if_include", "lo"});
  }
  words.push_back(self);
  std::vector<std::string> own = absl::StrSplit(joined, '\0');
  if (!own.empty()) own.pop_back();  // after the last end
  if (own.size() > 1) words.insert(words.end(), own.begin() + 1, own.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  execvp(argv[0], argv.data());
  return absl::ErrnoToStatus(
      errno, "mpirun (Debian: openmpi-bin) could not be started");
}

absl::StatusOr<bench::MpiBenchFigures> RunAsRank(const MpiOptions& options) {
  static const RealClock clock;
  ABSL_ASSIGN_OR_RETURN(const auto session, worker::MpiSession::Start());
  worker::MpiCommunicator::Options joining;
  joining.clock = &clock;
  if (options.across_nodes) joining.ranks_per_node = 1;
  ABSL_ASSIGN_OR_RETURN(const auto site,
                        worker::MpiCommunicator::Create(joining));
  auto figures = bench::RunMpiBench(options.bench, clock, site.get());
  if (!figures.ok()) site->Abort(figures.status().message());
  return figures;
}

ExitCode RunMpi(MpiOptions options) {
  if (!worker::StartedByMpi()) return Report(BecomeMpirun(options));
  for (const double megabytes : options.megabytes) {
    options.bench.sizes.push_back(static_cast<int64_t>(megabytes * 1e6) / 4 *
                                  4);
  }
  const auto figures = RunAsRank(options);
  if (!figures.ok()) return Report(figures.status());
  if (figures->place.rank == 0) {
    std::printf("%s", options.json ? bench::MpiBenchJson(*figures).c_str()
                                   : bench::MpiBenchTable(*figures).c_str());
  }
  return ExitCode::kOk;
}

}  // namespace

void AddMpiBench(CLI::App* group, ExitCode* exit_code) {
  const auto options = std::make_shared<MpiOptions>();  // and the callback
  CLI::App* command = group->add_subcommand(
      "mpi",
      "The ranks of one site: sums beside MPI_Allreduce's, and training "
      "together beside training alone");
  command
      ->add_option("--ranks", options->ranks,
                   "To start with mpirun, on this machine; not where mpirun "
                   "or srun started this")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command->add_flag("--across-nodes", options->across_nodes,
                    "Take every rank for a node of its own: all exchange by "
                    "MPI, which has TCP over loopback for it where this "
                    "command starts mpirun");
  command
      ->add_option("--megabytes", options->megabytes,
                   "Sizes of the sums, of 10^6 bytes; 498 is GPT-2's; 0: none")
      ->check(CLI::Range(0.0, 4294.0))
      ->delimiter(',')
      ->capture_default_str();
  command
      ->add_option("--models", options->bench.models,
                   "To train: cnn, mlp, resnet20, gpt2-124m (without it: "
                   "none)")
      ->delimiter(',');
  command
      ->add_option(
          "--batch", options->bench.batch_size,
          "Examples per step of one rank alone; 0: as for koinon bench "
          "train")
      ->check(CLI::Range(size_t{0}, size_t{1} << 20))
      ->capture_default_str();
  command->add_flag("--bf16", options->bench.bfloat16,
                    "Products in bfloat16, where the processor has it");
  command->add_option("--repetitions", options->bench.repetitions, "Medians of")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_flag("--json", options->json, "Print JSON, for programs");
  command->footer(
      "Each rank trains with one thread, once with a batch of its own (per\n"
      "rank) and once with its part of one (divided). \"Apart\" is all ranks "
      "at\n"
      "once without sums, which is the ceiling. Sums are compared before\n"
      "they are timed, and all that is compared is timed in turn. Leave the\n"
      "machine alone meanwhile. As root, mpirun wants OMPI_ALLOW_RUN_AS_ROOT=1 "
      "and\n"
      "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 in the environment.\n"
      "Examples:\n"
      "  koinon bench mpi --megabytes 1,10,100,498\n"
      "  koinon bench mpi --across-nodes --megabytes 1,10,100,498\n"
      "  koinon bench mpi --megabytes 0 --models cnn,gpt2-124m\n"
      "  mpirun -n 8 --hostfile hosts koinon bench mpi");
  command->callback([options, exit_code] {
    std::vector<double>& sizes = options->megabytes;
    if (sizes.size() == 1 && sizes[0] == 0) sizes.clear();
    *exit_code = RunMpi(*options);
  });
}

}  // namespace koinon::cli
