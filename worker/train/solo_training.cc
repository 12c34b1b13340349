#include "worker/train/solo_training.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/digest.h"
#include "base/safetensors.h"
#include "base/status_macros.h"
#include "kernels/bfloat16.h"
#include "kernels/onednn/onednn_network.h"
#include "worker/collective/data_fingerprint.h"
#include "worker/train/evaluation.h"
#include "worker/train/model_fit.h"
#include "worker/train/precision.h"
#include "worker/train/training_plan.h"

namespace koinon::worker {
namespace {

constexpr absl::Duration kSaveInterval = absl::Minutes(1);
constexpr char kCheckpointFile[] = "checkpoint.safetensors";

// What only a federation, or another program, can do.
absl::Status CheckSoloJob(const v1::JobSpec& job, bool has_initial_model) {
  const v1::TrainingSpec& training = job.training();
  if (!training.external_trainer().empty() &&
      training.external_trainer() != "native") {
    return absl::InvalidArgumentError(absl::StrCat(
        "training.external_trainer: expected none (Koinon's own kernels train "
        "here), found ",
        training.external_trainer()));
  }
  if (training.has_scaffold()) {
    return absl::InvalidArgumentError(
        "training.scaffold: expected none, for there is no drift to correct "
        "where one trains alone");
  }
  if (!job.initial_model().empty() && !has_initial_model) {
    return absl::InvalidArgumentError(absl::StrCat(
        "initial_model: expected the file of ", job.initial_model(),
        " beside the job, for there is no coordinator to ask"));
  }
  return absl::OkStatus();
}

absl::Status CheckData(const LocalData& data) {
  if (!data.external && !data.train.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "dataset %s: expected examples that Koinon reads, found %s",
      data.train.name, data.external ? "an external source" : "none"));
}

Digest DigestOf(absl::Span<const float> values) {
  return Sha256Of(
      absl::string_view(reinterpret_cast<const char*>(values.data()),
                        values.size() * sizeof(float)));
}

// Of everything that a training's bytes follow from, but for how long it is:
// more steps may be asked of it later. initial: the parameters that it starts
// from.
std::string FingerprintOf(const v1::JobSpec& job, const Dataset& data,
                          absl::Span<const float> initial, bool bfloat16) {
  v1::TrainingSpec training = job.training();
  training.clear_epochs();
  training.clear_steps();
  training.clear_parameters();  // an external trainer's; in no certain order
  return Sha256Of(
             absl::StrJoin(
                 {job.model().SerializeAsString(), training.SerializeAsString(),
                  absl::StrCat(job.seed()), absl::StrCat(bfloat16),
                  DigestOf(initial).ToHex(), DataFingerprint(data).ToHex()},
                 "\n"))
      .ToHex();
}

void FillDefault(int64_t parts, int64_t steps, int64_t* every) {
  if (*every == 0) *every = std::max<int64_t>(1, steps / parts);
}

absl::Status CheckOptions(const SoloTraining::Options& options) {
  if (options.report_every >= 0 && options.evaluate_every >= 0 &&
      options.checkpoint_every >= 0) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrFormat(
      "expected at least 0 steps between reports, evaluations and "
      "checkpoints, found %d, %d and %d",
      options.report_every, options.evaluate_every, options.checkpoint_every));
}

}  // namespace

SoloTraining::SoloTraining(Env* env, const Clock* clock, v1::JobSpec job,
                           const LocalData* data, const Options& options,
                           kernels::ModelGraph graph)
    : env_(env),
      clock_(clock),
      job_(std::move(job)),
      data_(data),
      options_(options),
      graph_(std::move(graph)) {}

absl::StatusOr<std::unique_ptr<SoloTraining>> SoloTraining::Create(
    Env* env, const Clock* clock, const v1::JobSpec& job, const LocalData* data,
    const Options& options) {
  ABSL_RETURN_IF_ERROR(CheckOptions(options));
  ABSL_RETURN_IF_ERROR(CheckSoloJob(job, !options.initial_model.empty()));
  ABSL_RETURN_IF_ERROR(CheckData(*data));
  ABSL_ASSIGN_OR_RETURN(kernels::ModelGraph graph,
                        kernels::ModelGraph::Build(job.model()));
  auto training = absl::WrapUnique(
      new SoloTraining(env, clock, job, data, options, std::move(graph)));
  ABSL_RETURN_IF_ERROR(training->Prepare());
  return training;
}

absl::Status SoloTraining::Prepare() {
  const v1::TrainingSpec& spec = job_.training();
  ABSL_RETURN_IF_ERROR(CheckTrainingTerms(spec));
  ABSL_RETURN_IF_ERROR(CheckModelFit(graph_, LossOf(spec), data_->train));
  if (!data_->held_out.empty()) {
    ABSL_RETURN_IF_ERROR(CheckModelFit(graph_, LossOf(spec), data_->held_out));
  }
  ABSL_ASSIGN_OR_RETURN(plan_, PlanTraining(spec, data_->train.size()));
  FillDefault(100, plan_.steps, &options_.report_every);
  FillDefault(20, plan_.steps, &options_.evaluate_every);
  ABSL_RETURN_IF_ERROR(
      CheckModelMemory(graph_, plan_.batch_size, options_.max_model_bytes));
  network_options_.batch_size = plan_.batch_size;
  network_options_.threads = options_.threads;
  network_options_.loss = LossOf(spec);
  ABSL_ASSIGN_OR_RETURN(network_options_.bfloat16,
                        UsesBfloat16(spec, kernels::HasBfloat16()));
  ABSL_ASSIGN_OR_RETURN(network_,
                        kernels::NewOneDnnNetwork(graph_, network_options_));
  ABSL_ASSIGN_OR_RETURN(optimizer_,
                        NewLocalOptimizer(graph_, spec, options_.threads));
  ABSL_RETURN_IF_ERROR(Initialize());
  run_ = std::make_unique<TrainingRun>(
      TrainingRun::Options{.spec = &job_.training(),
                           .plan = plan_,
                           .data = &data_->train,
                           .seed = job_.seed(),
                           .round = 1,
                           .threads = options_.threads,
                           .base = base_,
                           .correction = {},
                           .exchange = nullptr,
                           .shard = {}},
      network_.get(), optimizer_.get());
  return checkpoints() ? TakeUp() : absl::OkStatus();
}

absl::Status SoloTraining::Initialize() {
  const absl::Span<float> parameters = network_->parameters();
  if (options_.initial_model.empty()) {
    graph_.InitializeParameters(job_.seed(), 0, parameters);
  } else {
    ABSL_ASSIGN_OR_RETURN(
        const Model model,
        ReadModel(env_, options_.initial_model, options_.max_model_bytes));
    if (model.layout.hash() != graph_.layout().hash()) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s: expected layout %s, as the job's model has it, found %s",
          options_.initial_model, graph_.layout().hash().ToShortHex(),
          model.layout.hash().ToShortHex()));
    }
    std::copy(model.values.begin(), model.values.end(), parameters.begin());
  }
  if (job_.training().proximal_mu() > 0) {
    base_.assign(parameters.begin(), parameters.end());
  }
  return absl::OkStatus();
}

absl::Status SoloTraining::TakeUp() {
  ABSL_RETURN_IF_ERROR(env_->MakeDirs(options_.checkpoint_dir));
  fingerprint_ = FingerprintOf(job_, data_->train, network_->parameters(),
                               network_options_.bfloat16);
  // The optimizer's state is up to twice as large as the model.
  const uint64_t max_bytes =
      std::min(options_.max_model_bytes, uint64_t{1} << 60) * 3;
  absl::StatusOr<TrainingState> state = ReadCheckpoint(
      env_, absl::StrCat(options_.checkpoint_dir, "/", kCheckpointFile),
      graph_.layout(), fingerprint_, max_bytes, network_->parameters(),
      optimizer_.get());
  if (absl::IsNotFound(state.status())) return absl::OkStatus();
  ABSL_RETURN_IF_ERROR(state.status());
  if (state->step > plan_.steps) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "checkpoint: expected at most %d steps, as asked for, found %d",
        plan_.steps, state->step));
  }
  first_step_ = state->step;
  earlier_seconds_ = state->seconds;
  since_report_ = state->since_report;
  run_->StartAt(state->step, state->rates);
  return absl::OkStatus();
}

bool SoloTraining::has_classes() const {
  return HasClasses(network_options_.loss);
}

double SoloTraining::Seconds() const {
  return earlier_seconds_ + absl::ToDoubleSeconds(clock_->Now() - start_);
}

absl::Status SoloTraining::Save() {
  TrainingState state;
  state.fingerprint = fingerprint_;
  state.step = run_->steps();
  state.rates = run_->rates();
  state.seconds = Seconds();
  state.since_report = since_report_;
  ABSL_RETURN_IF_ERROR(WriteCheckpoint(
      env_, absl::StrCat(options_.checkpoint_dir, "/", kCheckpointFile),
      graph_.layout(), state, network_->parameters(), optimizer_.get()));
  last_save_ = clock_->Now();
  return absl::OkStatus();
}

absl::Status SoloTraining::SaveIfDue() {
  if (!checkpoints()) return absl::OkStatus();
  const bool due = options_.checkpoint_every > 0
                       ? run_->steps() % options_.checkpoint_every == 0
                       : clock_->Now() - last_save_ >= kSaveInterval;
  return due ? Save() : absl::OkStatus();
}

bool SoloTraining::EvaluationDue() const {
  return !data_->held_out.empty() &&
         (run_->done() || run_->steps() % options_.evaluate_every == 0);
}

bool SoloTraining::ReportDue() const {
  return run_->done() || EvaluationDue() ||
         run_->steps() % options_.report_every == 0;
}

absl::StatusOr<TrainingTotals> SoloTraining::EvaluateHeldOut(
    const std::atomic<bool>& stop) {
  const Dataset& data = data_->held_out;
  size_t batches = options_.evaluation_batches;
  if (batches == 0) {
    batches = data.is_sequences() ? kDefaultBatches : data.size();
  }
  return EvaluateDataset(data, plan_.batch_size, network_.get(), stop, batches);
}

absl::Status SoloTraining::ReportStep(const Observer& observer,
                                      const std::atomic<bool>& stop) {
  std::optional<TrainingTotals> held_out;
  if (EvaluationDue()) {
    ABSL_ASSIGN_OR_RETURN(held_out, EvaluateHeldOut(stop));
  }
  last_ = Report();
  last_.step = run_->steps();
  last_.held_out = held_out;
  last_.training = std::exchange(since_report_, TrainingTotals());
  const double seconds =
      absl::ToDoubleSeconds(std::exchange(in_steps_, absl::ZeroDuration()));
  if (seconds > 0) {
    last_.labels_per_second =
        static_cast<double>(last_.training.labels) / seconds;
  }
  last_.seconds = Seconds();
  if (observer.report) observer.report(last_);
  return absl::OkStatus();
}

absl::Status SoloTraining::StepOnce(const Observer& observer) {
  const absl::Time before = clock_->Now();
  // Stops are seen between steps, where there is something to save.
  const std::atomic<bool> never{false};
  ABSL_ASSIGN_OR_RETURN(const TrainingTotals totals, run_->Step(never));
  in_steps_ += clock_->Now() - before;
  since_report_.Add(totals);
  if (observer.step) observer.step(run_->steps(), totals);
  return absl::OkStatus();
}

absl::StatusOr<SoloTraining::Report> SoloTraining::Run(
    const Observer& observer, const std::atomic<bool>& stop) {
  start_ = last_save_ = clock_->Now();
  // An earlier run was stopped between a step and its report, or was done.
  bool report_due = run_->done() || (since_report_.examples > 0 && ReportDue());
  absl::Status status;
  while (status.ok() && (report_due || !run_->done())) {
    if (stop.load()) {
      status = absl::CancelledError("");
    } else if (report_due) {
      status = ReportStep(observer, stop);
      report_due = false;
    } else {
      status = StepOnce(observer);
      report_due = ReportDue();
    }
    // What is saved at a step is what its report leaves.
    if (status.ok() && !report_due) status = SaveIfDue();
  }
  const bool stopped = absl::IsCancelled(status);
  if (!status.ok() && !stopped) return status;
  if (checkpoints()) ABSL_RETURN_IF_ERROR(Save());
  if (!stopped) return last_;
  return absl::CancelledError(absl::StrFormat("stopped after step %d of %d",
                                              run_->steps(), plan_.steps));
}

absl::Status SoloTraining::Write(const std::string& path) {
  const absl::Span<const float> parameters = network_->parameters();
  ABSL_RETURN_IF_ERROR(CheckFinite(graph_.layout(), parameters));
  return WriteModel(env_, path,
                    {graph_.layout(),
                     std::vector<float>(parameters.begin(), parameters.end()),
                     {}});
}

}  // namespace koinon::worker
