#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <limits>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/clock.h"
#include "base/env.h"
#include "base/state_lock.h"
#include "base/status_macros.h"
#include "tools/cli/commands.h"
#include "tools/cli/job_file.h"
#include "tools/cli/loss_curve.h"
#include "tools/cli/train_view.h"
#include "worker/capabilities.h"
#include "worker/data/dataset.h"
#include "worker/train/solo_training.h"

namespace koinon::cli {
namespace {

using worker::SoloTraining;

struct Options {
  std::string job;
  std::string dataset;
  std::string output;
  std::string curve;
  int64_t steps = 0;
  double epochs = 0;
  uint64_t seed = 0;
  SoloTraining::Options solo;
  bool json = false;
};

std::atomic<bool> stop_asked{false};

// Ctrl-C and SIGTERM end the training after its step, the second one at once.
void StopOnSignals() {
  struct sigaction action = {};
  action.sa_handler = [](int) { stop_asked = true; };
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

absl::StatusOr<v1::JobSpec> ReadJob(const Options& options) {
  ABSL_ASSIGN_OR_RETURN(v1::JobSpec job, ReadJobFile(RealEnv(), options.job));
  if (options.steps > 0) {
    job.mutable_training()->clear_epochs();
    job.mutable_training()->set_steps(options.steps);
  }
  if (options.epochs > 0) {
    job.mutable_training()->clear_steps();
    job.mutable_training()->set_epochs(options.epochs);
  }
  if (options.seed > 0) job.set_seed(options.seed);
  if (job.seed() == 0) job.set_seed(1);
  return job;
}

absl::StatusOr<worker::LocalData> ReadData(const Options& options,
                                           const v1::JobSpec& job) {
  worker::DatasetConfig config;
  ABSL_RETURN_IF_ERROR(
      ParseTextArgument(RealEnv(), "--dataset", options.dataset, &config));
  if (!job.dataset().empty() && config.name() != job.dataset()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--dataset: expected the job's dataset, ", job.dataset(),
                     ", found ", config.name()));
  }
  return worker::LoadLocalData(RealEnv(), config);
}

// Finds before hours of training that there is nowhere to put the model.
absl::Status CheckOutput(const std::string& path) {
  if (path.empty() || RealEnv()->Exists(DirectoryOf(path))) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "--output ", path, ": there is no folder ", DirectoryOf(path)));
}

// Keeps a second run off the checkpoint folder. Null without one.
absl::StatusOr<std::unique_ptr<StateLock>> LockFolder(const std::string& dir) {
  if (dir.empty()) return nullptr;
  ABSL_RETURN_IF_ERROR(RealEnv()->MakeDirs(dir));
  auto lock = StateLock::Acquire(dir);
  if (!absl::IsFailedPrecondition(lock.status())) return lock;
  return absl::FailedPreconditionError(
      absl::StrCat("--checkpoint-dir ", dir,
                   ": another run keeps its checkpoints there; wait for its "
                   "end, or name another folder"));
}

TrainingFacts FactsOf(const SoloTraining& training,
                      const worker::LocalData& data) {
  TrainingFacts facts;
  facts.steps = training.steps();
  facts.first_step = training.first_step();
  if (data.train.is_sequences()) facts.unit = "tokens";
  facts.has_classes = training.has_classes();
  return facts;
}

std::string Describe(const SoloTraining& training, const v1::JobSpec& job,
                     const worker::LocalData& data, int threads) {
  return absl::StrFormat(
      "%d parameters, %d examples and %d held out, %s, %d threads, seed %d%s",
      training.parameters(), data.train.size(), data.held_out.size(),
      training.bfloat16() ? "bfloat16" : "float32", threads, job.seed(),
      training.first_step() > 0
          ? absl::StrCat("; goes on after step ", training.first_step())
          : "");
}

TrainStyle StyleFor(bool json) {
  if (json) return TrainStyle::kJson;
  return isatty(STDOUT_FILENO) == 1 ? TrainStyle::kTerminal
                                    : TrainStyle::kPlain;
}

// Runs the training, shown and recorded.
absl::Status RunShown(const Options& options, const TrainingFacts& facts,
                      SoloTraining* training, TrainView* view) {
  std::unique_ptr<LossCurve> curve;
  if (!options.curve.empty()) {
    ABSL_ASSIGN_OR_RETURN(
        curve, LossCurve::Open(options.curve, facts.unit, facts.first_step));
  }
  absl::Status recorded;
  SoloTraining::Observer observer;
  observer.step = [view](int64_t step, const worker::TrainingTotals& totals) {
    view->OnStep(step, totals);
  };
  observer.report = [&](const SoloTraining::Report& report) {
    view->OnReport(report);
    if (curve != nullptr) recorded.Update(curve->Add(report));
  };
  const auto last = training->Run(observer, stop_asked);
  view->Finish();
  ABSL_RETURN_IF_ERROR(last.status());
  return recorded;
}

absl::Status Train(Options options) {
  const RealClock clock;
  ABSL_RETURN_IF_ERROR(CheckOutput(options.output));
  ABSL_ASSIGN_OR_RETURN(const v1::JobSpec job, ReadJob(options));
  ABSL_ASSIGN_OR_RETURN(const worker::LocalData data, ReadData(options, job));
  if (options.solo.threads == 0) {
    options.solo.threads = worker::AvailableCores();
  }
  ABSL_ASSIGN_OR_RETURN(const auto lock,
                        LockFolder(options.solo.checkpoint_dir));
  ABSL_ASSIGN_OR_RETURN(
      const auto training,
      SoloTraining::Create(RealEnv(), &clock, job, &data, options.solo));
  const TrainingFacts facts = FactsOf(*training, data);
  TrainView view(stdout, StyleFor(options.json), &clock, facts);
  view.Note(Describe(*training, job, data, options.solo.threads));
  StopOnSignals();
  const absl::Status status = RunShown(options, facts, training.get(), &view);
  if (absl::IsCancelled(status) && training->checkpoints()) {
    return absl::CancelledError(absl::StrCat(
        status.message(), "; the same command goes on from there"));
  }
  ABSL_RETURN_IF_ERROR(status);
  if (options.output.empty()) return absl::OkStatus();
  ABSL_RETURN_IF_ERROR(training->Write(options.output));
  view.Note(absl::StrCat("wrote ", options.output));
  return absl::OkStatus();
}

void AddLength(CLI::App* command, Options* options) {
  const auto positive =
      CLI::Range(int64_t{1}, std::numeric_limits<int64_t>::max());
  auto* steps = command->add_option("--steps", options->steps,
                                    "Steps, in place of the job's");
  steps->check(positive);
  command
      ->add_option("--epochs", options->epochs,
                   "Passes over the data, in place of the job's")
      ->check(CLI::PositiveNumber)
      ->excludes(steps);
  command->add_option("--seed", options->seed,
                      "In place of the job's, which is 1 if it has none");
  command
      ->add_option("--report-every", options->solo.report_every,
                   "Steps between two reports. Absent: a hundredth of all")
      ->check(positive);
  command
      ->add_option("--evaluate-every", options->solo.evaluate_every,
                   "Steps between two measurements of what is held out. "
                   "Absent: a twentieth of all")
      ->check(positive);
  command
      ->add_option("--evaluation-batches", options->solo.evaluation_batches,
                   absl::StrCat("Batches of one measurement, at most. Absent: "
                                "all; of texts ",
                                SoloTraining::kDefaultBatches))
      ->check(positive);
}

void AddFiles(CLI::App* command, Options* options) {
  command->add_option("JOB", options->job, "The job file (docs/jobs.md)")
      ->required();
  command
      ->add_option("--dataset", options->dataset,
                   "The examples: a DatasetConfig in protobuf text, or @FILE "
                   "(docs/data.md)")
      ->required();
  command->add_option("--output,-o", options->output,
                      "Write the trained model there (safetensors)");
  command->add_option("--init", options->solo.initial_model,
                      "Start from this model (safetensors), not from the seed");
  command->add_option("--checkpoint-dir", options->solo.checkpoint_dir,
                      "Keep a checkpoint there, and go on from the one that "
                      "is there");
  command
      ->add_option("--checkpoint-every", options->solo.checkpoint_every,
                   "Steps between two checkpoints. Absent: about a minute")
      ->check(CLI::Range(int64_t{1}, std::numeric_limits<int64_t>::max()));
  command->add_option("--curve", options->curve,
                      "Write the reports there too, as a table (CSV)");
}

constexpr char kFooter[] =
    "Trains for one round of the job: what a worker of its federation would "
    "do\n"
    "with a single task. Cohort, aggregation and rounds have no part in it.\n"
    "Ctrl-C stops after the step, and keeps a checkpoint if there is a folder "
    "for it.\n"
    "\n"
    "Examples:\n"
    "  koinon train digits-mlp.txtpb --dataset @digits.txtpb --epochs 20 \\\n"
    "    -o digits.safetensors\n"
    "  koinon train char-gpt.txtpb --dataset @shakespeare.txtpb --threads 2 "
    "\\\n"
    "    --checkpoint-dir run --curve run.csv -o gpt.safetensors\n"
    "  koinon evaluate gpt.safetensors --job char-gpt.txtpb \\\n"
    "    --dataset @shakespeare.txtpb --held-out";

}  // namespace

void AddTrainCommand(CLI::App* app, ExitCode* exit_code) {
  const auto options = std::make_shared<Options>();  // shared with the callback
  options->solo.threads = 0;
  CLI::App* command = app->add_subcommand(
      "train", "Trains a job's model alone, on this machine");
  AddFiles(command, options.get());
  AddLength(command, options.get());
  command
      ->add_option("--threads", options->solo.threads,
                   "Threads to compute with. Absent: one for each core")
      ->check(CLI::Range(1, 1024));
  command
      ->add_option("--max-model-bytes", options->solo.max_model_bytes,
                   "Refuse a model larger than this, or whose layers put out "
                   "more for a batch")
      ->capture_default_str();
  command->add_flag("--json", options->json,
                    "Print one JSON object for each report, for programs");
  command->footer(kFooter);
  command->callback(
      [options, exit_code] { *exit_code = Report(Train(*options)); });
}

}  // namespace koinon::cli
