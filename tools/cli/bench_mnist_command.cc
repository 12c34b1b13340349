#include <stdlib.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/env.h"
#include "base/status_macros.h"
#include "tools/cli/bench_commands.h"
#include "tools/cli/client.h"
#include "tools/cli/commands.h"
#include "tools/cli/local_federation.h"
#include "tools/cli/watch.h"

namespace koinon::cli {
namespace {

struct MnistOptions {
  std::string data_dir;
  std::string bin_dir;
  int workers = 10;
  double alpha = 0.3;
  double accuracy = 0.97;
  int rounds = 100;
  double learning_rate = 0.05;
  uint64_t seed = 1;
  bool json = false;
};

struct MnistFigure {
  int64_t rounds = 0;
  double seconds = 0;  // from the submission
  double accuracy = 0;
};

// E = 1, B = 32, every worker in every round; each version is measured on the
// whole test set, dealt out over the workers.
v1::JobSpec MnistJob(const MnistOptions& options) {
  v1::JobSpec spec;
  spec.set_name("mnist");
  for (const int64_t extent : {1, 28, 28}) {
    spec.mutable_model()->add_input_shape(extent);
  }
  spec.mutable_model()->mutable_cnn()->set_classes(10);
  spec.set_dataset("mnist");
  spec.mutable_training()->set_epochs(1);
  spec.mutable_training()->set_batch_size(32);
  auto* sgd = spec.mutable_training()->mutable_optimizer()->mutable_sgd();
  sgd->set_learning_rate(options.learning_rate);
  sgd->set_momentum(0.9);
  spec.mutable_cohort()->set_minimum(options.workers);
  spec.set_rounds(options.rounds);
  spec.mutable_stop()->set_metric("accuracy");
  spec.mutable_stop()->set_threshold(options.accuracy);
  spec.set_seed(options.seed);
  return spec;
}

std::string MnistDataset(const MnistOptions& options) {
  const std::string dir = options.data_dir;
  const auto idx = [&dir](const std::string& part) {
    return absl::StrCat("{ idx { images: \"", dir, "/", part,
                        "-images-idx3-ubyte.gz\" labels: \"", dir, "/", part,
                        "-labels-idx1-ubyte.gz\" } }");
  };
  return absl::StrCat("name: \"mnist\" seed: ", options.seed, " source ",
                      idx("train"), " held_out_source ", idx("t10k"));
}

// A folder that is removed in the end.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    path_ = absl::StrCat(std::filesystem::temp_directory_path().string(),
                         "/koinon-mnist-XXXXXX");
    if (mkdtemp(path_.data()) == nullptr) path_.clear();
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

absl::StatusOr<MnistFigure> MeasureMnist(const MnistOptions& options) {
  const TemporaryFolder folder;
  if (folder.path().empty()) {
    return absl::FailedPreconditionError("cannot make a temporary folder");
  }
  LocalPlan plan;
  ABSL_ASSIGN_OR_RETURN(
      const Programs programs,
      FindPrograms(options.bin_dir,
                   std::filesystem::read_symlink("/proc/self/exe")));
  plan.coordinator_program = programs.coordinator;
  plan.worker_program = programs.worker;
  plan.state_dir = folder.path();
  plan.workers = options.workers;
  ABSL_ASSIGN_OR_RETURN(plan.datasets,
                        ParseDatasets({MnistDataset(options)},
                                      absl::StrCat("dirichlet:", options.alpha),
                                      options.workers));
  LocalFederation federation(
      plan, [](const std::string&) {},
      [](absl::Duration pause) {
        absl::SleepFor(pause);
        return false;
      });
  ABSL_RETURN_IF_ERROR(federation.Start());
  ABSL_ASSIGN_OR_RETURN(const auto client, Connect(federation.connection()));
  const absl::Time start = absl::Now();
  ABSL_RETURN_IF_ERROR(client->SubmitJob(MnistJob(options)).status());
  WatchPrinter printer(stdout, WatchStyleFor(stdout, options.json));
  ABSL_ASSIGN_OR_RETURN(const v1::JobStatus end,
                        WatchUntilEnd(client.get(), "mnist", WatchOptions(),
                                      [&printer](const v1::JobEvent& event) {
                                        printer.OnEvent(event);
                                      }));
  MnistFigure figure;
  figure.seconds = absl::ToDoubleSeconds(absl::Now() - start);
  printer.Finish();
  federation.Stop();
  figure.rounds = end.last_report().round();
  figure.accuracy = end.last_report().evaluation().accuracy().mean();
  if (end.state() != v1::SUCCEEDED) {
    return absl::InternalError(absl::StrCat("the job failed: ", end.reason()));
  }
  if (figure.accuracy < options.accuracy) {
    return absl::FailedPreconditionError(
        absl::StrCat("accuracy ", figure.accuracy, " after ", figure.rounds,
                     " rounds, wanted ", options.accuracy));
  }
  return figure;
}

ExitCode RunMnist(const MnistOptions& options) {
  const auto figure = MeasureMnist(options);
  if (!figure.ok()) return Report(figure.status());
  if (options.json) {
    std::printf("{\"rounds\":%lld,\"seconds\":%g,\"accuracy\":%g}\n",
                static_cast<long long>(figure->rounds), figure->seconds,
                figure->accuracy);
  } else {
    std::printf("test accuracy %.4f after %lld rounds, %.1f seconds\n",
                figure->accuracy, static_cast<long long>(figure->rounds),
                figure->seconds);
  }
  return ExitCode::kOk;
}

}  // namespace

void AddMnistBench(CLI::App* group, ExitCode* exit_code) {
  const auto options = std::make_shared<MnistOptions>();  // and the callback
  CLI::App* command = group->add_subcommand(
      "mnist",
      "Rounds and seconds to a test accuracy on MNIST: real processes, mutual "
      "TLS, the CNN of McMahan et al. (2017), E=1, B=32");
  command
      ->add_option("--data", options->data_dir,
                   "Folder with MNIST's four files (*-ubyte.gz)")
      ->required()
      ->check(CLI::ExistingDirectory);
  command->add_option("--workers", options->workers, "How many sites")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_option("--alpha", options->alpha, "Of the Dirichlet split")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--accuracy", options->accuracy, "When to stop")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command->add_option("--rounds", options->rounds, "At most so many")
      ->check(CLI::Range(1, 100'000))
      ->capture_default_str();
  command
      ->add_option("--learning-rate", options->learning_rate,
                   "Of the workers' SGD with momentum 0.9")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--seed", options->seed, "Of split, model and training")
      ->capture_default_str();
  command->add_option("--bin-dir", options->bin_dir,
                      "Where koinon-coordinator and koinon-worker are");
  command->add_flag("--json", options->json, "Print JSON, for programs");
  command->callback([options, exit_code] { *exit_code = RunMnist(*options); });
}

}  // namespace koinon::cli
