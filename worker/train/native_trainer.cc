#include "worker/train/native_trainer.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "base/random.h"
#include "base/safetensors.h"
#include "base/status_macros.h"
#include "kernels/graph/control_variates.h"
#include "kernels/graph/model_graph.h"
#include "kernels/onednn/onednn_network.h"
#include "kernels/optimizer.h"
#include "worker/train/batches.h"
#include "worker/train/task_checks.h"
#include "worker/train/training_plan.h"
#include "worker/train/update_file.h"

namespace koinon::worker {
namespace {

using kernels::BatchMetrics;

// Progress is told so many times in a task.
constexpr int64_t kProgressReports = 20;

v1::TrainingSpec::Loss LossOf(const v1::TrainingSpec& spec) {
  return spec.loss() == v1::TrainingSpec::LOSS_UNSPECIFIED
             ? v1::TrainingSpec::SOFTMAX_CROSS_ENTROPY
             : spec.loss();
}

bool HasClasses(v1::TrainingSpec::Loss loss) {
  return loss == v1::TrainingSpec::SOFTMAX_CROSS_ENTROPY;
}

// Sums of what batches measured.
struct Totals {
  double loss = 0;  // times examples
  int64_t correct = 0;
  int64_t examples = 0;

  void Add(const BatchMetrics& batch, size_t size) {
    loss += batch.loss * static_cast<double>(size);
    correct += batch.correct;
    examples += static_cast<int64_t>(size);
  }
  double MeanLoss() const {
    return examples == 0 ? 0 : loss / static_cast<double>(examples);
  }
};

v1::Metrics ToMetrics(const Totals& totals, bool classes, size_t examples,
                      absl::Duration elapsed, int64_t steps) {
  v1::Metrics metrics;
  metrics.set_examples(static_cast<int64_t>(examples));
  metrics.set_loss(totals.MeanLoss());
  metrics.set_has_accuracy(classes);
  if (classes) {
    metrics.set_accuracy(static_cast<double>(totals.correct) /
                         static_cast<double>(totals.examples));
  }
  metrics.set_seconds(absl::ToDoubleSeconds(elapsed));
  metrics.set_steps(steps);
  return metrics;
}

std::string FormatExtents(const std::vector<int64_t>& shape) {
  return absl::StrFormat("[%s]", absl::StrJoin(shape, ", "));
}

// A flat model takes any example with as many features; every other model
// wants its own shape.
absl::Status CheckShape(const kernels::ModelGraph& graph, const Dataset& data) {
  const bool flat = graph.input_shape().size() == 1;
  if (graph.input_shape() == data.shape ||
      (flat &&
       graph.input_size() == static_cast<int64_t>(data.example_size()))) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrFormat(
      "dataset %s: expected examples of shape %s, as the model has it, found "
      "%s",
      data.name, FormatExtents(graph.input_shape()),
      FormatExtents(data.shape)));
}

absl::Status CheckClasses(const kernels::ModelGraph& graph,
                          const Dataset& data) {
  if (data.target_size != 0) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "dataset %s: expected classes for SOFTMAX_CROSS_ENTROPY, found values "
        "(regression)",
        data.name));
  }
  const int32_t largest =
      *std::max_element(data.labels.begin(), data.labels.end());
  if (largest < graph.output_size()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "dataset %s: expected classes below %d, as the model has them, found %d",
      data.name, graph.output_size(), largest));
}

absl::Status CheckTargets(const kernels::ModelGraph& graph,
                          const Dataset& data) {
  if (static_cast<int64_t>(data.target_size) == graph.output_size()) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrFormat(
      "dataset %s: expected %d values to predict for each example "
      "(MEAN_SQUARED_ERROR), found %s",
      data.name, graph.output_size(),
      data.target_size == 0 ? "classes" : absl::StrCat(data.target_size)));
}

// Whether model, loss and data fit each other. Requires data to be not empty.
absl::Status CheckFit(const kernels::ModelGraph& graph,
                      v1::TrainingSpec::Loss loss, const Dataset& data) {
  ABSL_RETURN_IF_ERROR(CheckShape(graph, data));
  switch (loss) {
    case v1::TrainingSpec::SOFTMAX_CROSS_ENTROPY:
      return CheckClasses(graph, data);
    case v1::TrainingSpec::MEAN_SQUARED_ERROR:
      return CheckTargets(graph, data);
    default:
      return absl::InvalidArgumentError(
          absl::StrFormat("training.loss: expected SOFTMAX_CROSS_ENTROPY or "
                          "MEAN_SQUARED_ERROR, found %d",
                          static_cast<int>(loss)));
  }
}

absl::StatusOr<const LocalData*> FindReadable(const LocalDatasets& datasets,
                                              const v1::OfferTask& offer) {
  ABSL_ASSIGN_OR_RETURN(const LocalData* data, FindDataset(datasets, offer));
  if (!data->external) return data;
  return absl::InvalidArgumentError(absl::StrFormat(
      "dataset %s: only an external trainer reads it; name one in "
      "training.external_trainer",
      offer.dataset()));
}

// Refuses what would not fit memory: a few bytes of model describe any number
// of parameters, or layers that are small but put out much.
absl::Status CheckMemory(const kernels::ModelGraph& graph, size_t batch_size,
                         uint64_t max_bytes) {
  double outputs = 0;  // a double does not overflow
  for (const auto& layer : graph.layers()) {
    double extent = 1;
    for (int64_t e : layer.output_shape) extent *= static_cast<double>(e);
    outputs += extent;
  }
  const double output_bytes = outputs * batch_size * sizeof(float);
  if (graph.layout().total_bytes() <= max_bytes && output_bytes <= max_bytes) {
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(absl::StrFormat(
      "expected at most %d bytes of parameters and of layers' outputs for %d "
      "examples, found %d and %.0f",
      max_bytes, batch_size, graph.layout().total_bytes(), output_bytes));
}

absl::Status CheckLoss(double loss, int64_t step) {
  if (std::isfinite(loss)) return absl::OkStatus();
  return absl::InternalError(
      absl::StrFormat("loss became %s at step %d",
                      std::isnan(loss) ? "NaN" : "infinite", step));
}

// One task's training: steps over batches until the plan is done.
class TrainingRun {
 public:
  TrainingRun(const v1::OfferTask& offer, const TrainingPlan& plan,
              const Dataset& data, absl::Span<const float> base,
              absl::Span<const float> correction, kernels::Network* network,
              kernels::LocalOptimizer* optimizer)
      : offer_(offer),
        spec_(offer.training()),
        plan_(plan),
        base_(base),
        correction_(correction),
        network_(network),
        optimizer_(optimizer),
        batches_(data, plan.batch_size),
        order_seed_(DeriveSeed(offer.seed(), "order")),
        step_seed_(DeriveSeed(offer.seed(), "step")) {}

  // Returns what the last epoch measured.
  absl::StatusOr<Totals> Run(const ProgressCallback& progress,
                             const std::atomic<bool>& stop) {
    const int64_t first_measured = plan_.steps - plan_.steps_per_epoch;
    const int64_t report_every =
        std::max<int64_t>(1, plan_.steps / kProgressReports);
    Totals measured, since_report;
    for (int64_t step = 0; step < plan_.steps; ++step) {
      if (stop.load()) return absl::CancelledError("training was stopped");
      const kernels::Batch batch = NextBatch(step);
      ABSL_ASSIGN_OR_RETURN(const BatchMetrics metrics, Step(step, batch));
      if (step >= first_measured) measured.Add(metrics, batch.size);
      since_report.Add(metrics, batch.size);
      if ((step + 1) % report_every == 0 && progress) {
        progress(static_cast<double>(step + 1) / plan_.steps,
                 since_report.MeanLoss());
        since_report = Totals();
      }
    }
    return measured;
  }

  // Sum of the learning rates of the steps so far.
  double rates() const { return rates_; }

 private:
  kernels::Batch NextBatch(int64_t step) {
    if (step % plan_.steps_per_epoch == 0) {
      batches_.Shuffle(DeriveSeed(
          order_seed_, static_cast<uint64_t>(step / plan_.steps_per_epoch)));
    }
    return batches_.Next();
  }

  absl::StatusOr<BatchMetrics> Step(int64_t step, const kernels::Batch& batch) {
    ABSL_ASSIGN_OR_RETURN(
        const BatchMetrics metrics,
        network_->ForwardBackward(
            batch, DeriveSeed(step_seed_, static_cast<uint64_t>(step))));
    ABSL_RETURN_IF_ERROR(CheckLoss(metrics.loss, step));
    const absl::Span<float> gradients = network_->gradients();
    const absl::Span<float> parameters = network_->parameters();
    if (spec_.proximal_mu() > 0) {
      kernels::AddProximalTerm(spec_.proximal_mu(), parameters, base_,
                               gradients);
    }
    if (spec_.clip_norm() > 0) {
      kernels::ClipByGlobalNorm(spec_.clip_norm(), gradients);
    }
    if (!correction_.empty()) kernels::AddCorrection(correction_, gradients);
    const int64_t index =
        spec_.schedule().per_round() ? offer_.task().round() - 1 : step;
    const double factor = kernels::LearningRateFactor(spec_.schedule(), index);
    optimizer_->Step(factor, gradients, parameters);
    rates_ += optimizer_->learning_rate() * factor;
    return metrics;
  }

  const v1::OfferTask& offer_;
  const v1::TrainingSpec& spec_;
  const TrainingPlan& plan_;
  const absl::Span<const float> base_;
  // Of every gradient, [parameters]; empty: none.
  const absl::Span<const float> correction_;
  kernels::Network* const network_;
  kernels::LocalOptimizer* const optimizer_;
  Batches batches_;
  const uint64_t order_seed_;
  const uint64_t step_seed_;
  double rates_ = 0;
};

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

// Negative and non-finite values would silently do nothing.
absl::Status CheckTerms(const v1::TrainingSpec& spec) {
  for (const auto& [field, value] :
       {std::pair("proximal_mu", spec.proximal_mu()),
        std::pair("clip_norm", spec.clip_norm())}) {
    if (!(value >= 0) || !std::isfinite(value)) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "training.%s: expected a finite number >= 0, found %g", field,
          value));
    }
  }
  ABSL_RETURN_IF_ERROR(kernels::CheckScaffoldTraining(spec));
  return kernels::ValidateLearningRateSchedule(spec.schedule());
}

}  // namespace

struct NativeTrainer::Task {
  const Dataset* data = nullptr;
  TrainingPlan plan;
  v1::TrainingSpec::Loss loss;
  ModelLayout model_layout;
  Model version;  // the model and, with training.scaffold, control variates

  absl::Span<const float> parameters() const {
    return absl::MakeConstSpan(version.values)
        .first(model_layout.total_elements());
  }
  // The server's control variate; empty: the job has none.
  absl::Span<const float> control() const {
    return absl::MakeConstSpan(version.values)
        .subspan(model_layout.total_elements());
  }
  // Holds the model's parameters. The cache's own.
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
  ABSL_RETURN_IF_ERROR(CheckTerms(offer.training()));
  // To evaluate, batches of the same size, so that one network serves for both.
  ABSL_ASSIGN_OR_RETURN(task.plan,
                        PlanTraining(offer.training(), task.data->size()));
  ABSL_ASSIGN_OR_RETURN(const kernels::ModelGraph graph,
                        kernels::ModelGraph::Build(offer.model()));
  ABSL_ASSIGN_OR_RETURN(
      const ModelLayout layout,
      kernels::VersionLayout(graph.layout(), offer.training()));
  ABSL_RETURN_IF_ERROR(CheckOfferedLayout(offer, layout));
  ABSL_RETURN_IF_ERROR(CheckFit(graph, task.loss, *task.data));
  ABSL_RETURN_IF_ERROR(
      CheckMemory(graph, task.plan.batch_size, options_.max_model_bytes));
  ABSL_ASSIGN_OR_RETURN(task.version,
                        ReadModel(env_, model_path, options_.max_model_bytes));
  ABSL_RETURN_IF_ERROR(CheckOfferedLayout(offer, task.version.layout));
  ABSL_ASSIGN_OR_RETURN(task.prepared,
                        networks_.Get(offer.model(), graph,
                                      {.batch_size = task.plan.batch_size,
                                       .threads = options_.threads,
                                       .loss = task.loss,
                                       .training = training}));
  task.model_layout = graph.layout();
  const absl::Span<const float> parameters = task.parameters();
  std::copy(parameters.begin(), parameters.end(),
            task.prepared->network->parameters().begin());
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
                              task.model_layout));
  kernels::ControlCorrection(task.control(), own, absl::MakeSpan(own));
  return own;
}

absl::StatusOr<v1::Metrics> NativeTrainer::Train(
    const v1::OfferTask& offer, const std::string& base_path,
    const std::string& update_path, const ProgressCallback& progress,
    const std::atomic<bool>& stop) {
  const absl::Time start = clock_->Now();
  ABSL_ASSIGN_OR_RETURN(const Task task,
                        Prepare(offer, base_path, /*training=*/true));
  kernels::Network* const network = task.prepared->network.get();
  ABSL_ASSIGN_OR_RETURN(const auto optimizer, kernels::LocalOptimizer::Create(
                                                  offer.training().optimizer(),
                                                  task.parameters().size()));
  ABSL_ASSIGN_OR_RETURN(std::vector<float> correction, Correction(offer, task));
  TrainingRun run(offer, task.plan, *task.data, task.parameters(), correction,
                  network, optimizer.get());
  ABSL_ASSIGN_OR_RETURN(const Totals totals, run.Run(progress, stop));
  const std::vector<float> rest =
      DifferenceOfControl(task.parameters(), network->parameters(),
                          task.control(), run.rates(), std::move(correction));
  ABSL_RETURN_IF_ERROR(WriteUpdate(env_, task.version.layout, task.parameters(),
                                   network->parameters(), rest, update_path));
  return ToMetrics(totals, HasClasses(task.loss), task.data->size(),
                   clock_->Now() - start, task.plan.steps);
}

absl::StatusOr<v1::Metrics> NativeTrainer::Evaluate(
    const v1::OfferTask& offer, const std::string& model_path,
    const std::atomic<bool>& stop) {
  const absl::Time start = clock_->Now();
  ABSL_ASSIGN_OR_RETURN(const Task task,
                        Prepare(offer, model_path, /*training=*/false));
  Batches batches(*task.data, task.prepared->options.batch_size);
  Totals totals;
  for (kernels::Batch batch = batches.Next(); batch.size > 0;
       batch = batches.Next()) {
    if (stop.load()) return absl::CancelledError("evaluation was stopped");
    ABSL_ASSIGN_OR_RETURN(const BatchMetrics metrics,
                          task.prepared->network->Evaluate(batch));
    totals.Add(metrics, batch.size);
  }
  if (!std::isfinite(totals.MeanLoss())) {
    return absl::InternalError("loss on the held-out part is not finite");
  }
  return ToMetrics(totals, HasClasses(task.loss), task.data->size(),
                   clock_->Now() - start, 0);
}

}  // namespace koinon::worker
