#include "worker/train/native_trainer.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "base/safetensors.h"
#include "base/status_macros.h"
#include "kernels/bfloat16.h"
#include "kernels/graph/control_variates.h"
#include "kernels/graph/model_graph.h"
#include "kernels/onednn/onednn_network.h"
#include "kernels/optimizer.h"
#include "worker/collective/site_member.h"
#include "worker/train/evaluation.h"
#include "worker/train/model_fit.h"
#include "worker/train/precision.h"
#include "worker/train/task_checks.h"
#include "worker/train/training_plan.h"
#include "worker/train/training_run.h"
#include "worker/train/training_totals.h"
#include "worker/train/update_file.h"

namespace koinon::worker {
namespace {

absl::StatusOr<const LocalData*> FindReadable(const LocalDatasets& datasets,
                                              const v1::OfferTask& offer) {
  ABSL_ASSIGN_OR_RETURN(const LocalData* data, FindDataset(datasets, offer));
  if (!data->external) return data;
  return absl::InvalidArgumentError(absl::StrFormat(
      "dataset %s: only an external trainer reads it; name one in "
      "training.external_trainer",
      offer.dataset()));
}

// What the second half of the update is: c_i+ - c_i, in `memory`. Nothing for
// a job without control variates.
std::vector<float> DifferenceOfControl(absl::Span<const float> before,
                                       absl::Span<const float> after,
                                       absl::Span<const float> control,
                                       double rates,
                                       std::vector<float> memory) {
  if (rates > 0) {
    kernels::ControlDifference(before.first(memory.size()),
                               after.first(memory.size()), control, rates,
                               absl::MakeSpan(memory));
  } else {
    // A schedule that has come to rest: nothing moved, nothing was learned.
    std::fill(memory.begin(), memory.end(), 0.0f);
  }
  return memory;
}

}  // namespace

struct NativeTrainer::Task {
  const Dataset* data = nullptr;
  TrainingPlan plan;
  v1::TrainingSpec::Loss loss;
  std::optional<kernels::ModelGraph> graph;
  Model version;  // the model and, with training.scaffold, control variates

  absl::Span<const float> parameters() const {
    return absl::MakeConstSpan(version.values)
        .first(graph->layout().total_elements());
  }
  // The server's control variate; empty: the job has none.
  absl::Span<const float> control() const {
    return absl::MakeConstSpan(version.values)
        .subspan(graph->layout().total_elements());
  }
  void LoadNetwork() const {
    std::copy(parameters().begin(), parameters().end(),
              prepared->network->parameters().begin());
  }
  // The cache's own.
  PreparedNetwork* prepared = nullptr;
};

NativeTrainer::NativeTrainer(Env* env, const Clock* clock,
                             const LocalDatasets* datasets,
                             const Options& options)
    : env_(env),
      clock_(clock),
      datasets_(datasets),
      options_(options),
      networks_(options.max_cached_networks, kernels::NewOneDnnNetwork) {}

absl::StatusOr<NativeTrainer::Task> NativeTrainer::Prepare(
    const v1::OfferTask& offer, const std::string& model_path, bool training) {
  Task task;
  ABSL_ASSIGN_OR_RETURN(const LocalData* local,
                        FindReadable(*datasets_, offer));
  if (!training) ABSL_RETURN_IF_ERROR(CheckHeldOut(*local, offer));
  task.data = training ? &local->train : &local->held_out;
  task.loss = LossOf(offer.training());
  ABSL_RETURN_IF_ERROR(CheckTrainingTerms(offer.training()));
  ABSL_ASSIGN_OR_RETURN(const bool bfloat16,
                        UsesBfloat16(offer.training(), kernels::HasBfloat16()));
  // To evaluate, batches of the same size, so that one network serves for both.
  ABSL_ASSIGN_OR_RETURN(task.plan,
                        PlanTraining(offer.training(), task.data->size()));
  ABSL_ASSIGN_OR_RETURN(const kernels::ModelGraph graph,
                        kernels::ModelGraph::Build(offer.model()));
  ABSL_ASSIGN_OR_RETURN(
      const ModelLayout layout,
      kernels::VersionLayout(graph.layout(), offer.training()));
  ABSL_RETURN_IF_ERROR(CheckOfferedLayout(offer, layout));
  ABSL_RETURN_IF_ERROR(CheckModelFit(graph, task.loss, *task.data));
  ABSL_RETURN_IF_ERROR(
      CheckModelMemory(graph, task.plan.batch_size, options_.max_model_bytes));
  const SiteMember member(options_.site, clock_);
  if (!training || member.leads()) {
    ABSL_ASSIGN_OR_RETURN(
        task.version, ReadModel(env_, model_path, options_.max_model_bytes));
    ABSL_RETURN_IF_ERROR(CheckOfferedLayout(offer, task.version.layout));
  } else {
    task.version.layout = layout;  // the values come from the rank that leads
    task.version.values.resize(layout.total_elements());
  }
  const size_t batch_size = member.shard().Most(task.plan.batch_size);
  ABSL_ASSIGN_OR_RETURN(task.prepared,
                        networks_.Get(offer.model(), graph,
                                      {.batch_size = batch_size,
                                       .threads = options_.threads,
                                       .loss = task.loss,
                                       .training = training,
                                       .bfloat16 = bfloat16}));
  task.graph = graph;
  return task;
}

absl::StatusOr<std::vector<float>> NativeTrainer::Correction(
    const v1::OfferTask& offer, const Task& task) {
  if (!offer.training().has_scaffold()) return std::vector<float>();
  if (options_.controls == nullptr) {
    return absl::FailedPreconditionError(
        "training.scaffold: this worker keeps no control variates");
  }
  ABSL_ASSIGN_OR_RETURN(
      std::vector<float> own,
      options_.controls->Read({offer.task().job(), offer.job_submitted_ms()},
                              task.graph->layout()));
  kernels::ControlCorrection(task.control(), own, absl::MakeSpan(own));
  return own;
}

absl::StatusOr<std::vector<float>> NativeTrainer::SharedCorrection(
    const v1::OfferTask& offer, const Task& task, SiteMember* member) {
  absl::StatusOr<std::vector<float>> correction = std::vector<float>();
  if (member->leads()) {
    correction = Correction(offer, task);
  } else if (offer.training().has_scaffold()) {
    correction->resize(task.parameters().size());
  }
  ABSL_RETURN_IF_ERROR(member->Agree(correction.status()));
  ABSL_RETURN_IF_ERROR(member->Share(absl::MakeSpan(*correction)));
  return correction;
}

v1::Metrics NativeTrainer::ToMetrics(const TrainingTotals& totals,
                                     const Task& task, absl::Duration elapsed,
                                     int64_t steps) {
  v1::Metrics metrics;
  metrics.set_examples(static_cast<int64_t>(task.data->size()));
  metrics.set_loss(totals.MeanLoss());
  metrics.set_has_accuracy(HasClasses(task.loss));
  if (metrics.has_accuracy()) metrics.set_accuracy(totals.Accuracy());
  metrics.set_seconds(absl::ToDoubleSeconds(elapsed));
  metrics.set_steps(steps);
  metrics.set_bfloat16(task.prepared->options.bfloat16);
  return metrics;
}

absl::StatusOr<v1::Metrics> NativeTrainer::Train(
    const v1::OfferTask& offer, const std::string& base_path,
    const std::string& update_path, const ProgressCallback& progress,
    const std::atomic<bool>& stop) {
  const absl::Time start = clock_->Now();
  SiteMember member(options_.site, clock_);
  absl::StatusOr<Task> prepared = Prepare(offer, base_path, /*training=*/true);
  ABSL_RETURN_IF_ERROR(member.Agree(prepared.status()));
  Task& task = *prepared;
  ABSL_RETURN_IF_ERROR(member.Share(absl::MakeSpan(task.version.values)));
  task.LoadNetwork();
  kernels::Network* const network = task.prepared->network.get();
  ABSL_ASSIGN_OR_RETURN(
      const auto optimizer,
      NewLocalOptimizer(*task.graph, offer.training(), options_.threads));
  ABSL_ASSIGN_OR_RETURN(std::vector<float> correction,
                        SharedCorrection(offer, task, &member));
  TrainingRun run(
      {.spec = &offer.training(),
       .plan = task.plan,
       .data = task.data,
       .seed = offer.seed(),
       .round = offer.task().round(),
       .threads = options_.threads,
       .base = task.parameters(),
       .correction = correction,
       .exchange = member.BeginRun(offer.training(), task.plan.steps,
                                   network->parameters().size()),
       .shard = member.shard()},
      network, optimizer.get());
  ABSL_ASSIGN_OR_RETURN(TrainingTotals totals, run.Finish(progress, stop));
  ABSL_RETURN_IF_ERROR(
      member.EndRun(*task.graph, network->parameters(), &totals));
  v1::Metrics metrics =
      ToMetrics(totals, task, clock_->Now() - start, task.plan.steps);
  if (!member.alone()) {
    *metrics.mutable_communication() = member.Communication();
  }
  if (!member.leads()) return metrics;
  const std::vector<float> rest =
      DifferenceOfControl(task.parameters(), network->parameters(),
                          task.control(), run.rates(), std::move(correction));
  ABSL_RETURN_IF_ERROR(WriteUpdate(env_, task.version.layout, task.parameters(),
                                   network->parameters(), rest, update_path));
  metrics.set_seconds(absl::ToDoubleSeconds(clock_->Now() - start));
  return metrics;
}

absl::StatusOr<v1::Metrics> NativeTrainer::Evaluate(
    const v1::OfferTask& offer, const std::string& model_path,
    const std::atomic<bool>& stop) {
  const absl::Time start = clock_->Now();
  ABSL_ASSIGN_OR_RETURN(const Task task,
                        Prepare(offer, model_path, /*training=*/false));
  task.LoadNetwork();
  ABSL_ASSIGN_OR_RETURN(
      const TrainingTotals totals,
      EvaluateDataset(*task.data, task.prepared->options.batch_size,
                      task.prepared->network.get(), stop));
  return ToMetrics(totals, task, clock_->Now() - start, 0);
}

}  // namespace koinon::worker
