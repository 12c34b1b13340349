#include "worker/train/training_run.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/model_layout.h"
#include "base/random.h"
#include "base/status_macros.h"
#include "kernels/graph/control_variates.h"

namespace koinon::worker {
namespace {

using kernels::BatchMetrics;

// Progress is told so many times in a run.
constexpr int64_t kProgressReports = 20;

absl::Status CheckLoss(double loss, int64_t step) {
  if (std::isfinite(loss)) return absl::OkStatus();
  return absl::InternalError(
      absl::StrFormat("loss became %s at step %d",
                      std::isnan(loss) ? "NaN" : "infinite", step));
}

absl::Status Stopped() { return absl::CancelledError("training was stopped"); }

}  // namespace

absl::Status CheckTrainingTerms(const v1::TrainingSpec& spec) {
  // Negative and non-finite values would silently do nothing.
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

absl::StatusOr<std::unique_ptr<kernels::LocalOptimizer>> NewLocalOptimizer(
    const kernels::ModelGraph& graph, const v1::TrainingSpec& spec,
    int threads) {
  kernels::LocalOptimizer::Options options;
  options.threads = threads;
  const ModelLayout& layout = graph.layout();
  for (size_t i = 0; i < layout.tensors().size(); ++i) {
    if (!graph.is_buffer(i)) continue;
    const size_t begin = layout.offset_bytes(i) / sizeof(float);
    options.frozen.emplace_back(begin,
                                begin + layout.size_bytes(i) / sizeof(float));
  }
  return kernels::LocalOptimizer::Create(spec.optimizer(),
                                         layout.total_elements(), options);
}

TrainingRun::TrainingRun(const Options& options, kernels::Network* network,
                         kernels::LocalOptimizer* optimizer)
    : options_(options),
      network_(network),
      optimizer_(optimizer),
      order_seed_(DeriveSeed(options.seed, "order")),
      // Members draw masks of their own; the first draws those of one alone.
      step_seed_(options.shard.index == 0
                     ? DeriveSeed(options.seed, "step")
                     : DeriveSeed(DeriveSeed(options.seed, "step"),
                                  options.shard.index)),
      batches_(*options.data, options.plan.batch_size, options.shard) {}

void TrainingRun::StartAt(int64_t step, double rates) {
  step_ = step;
  rates_ = rates;
  in_pass_ = false;
}

absl::StatusOr<kernels::Batch> TrainingRun::NextBatch() {
  const int64_t in_epoch = step_ % options_.plan.steps_per_epoch;
  if (in_epoch == 0 || !in_pass_) {
    const int64_t epoch = step_ / options_.plan.steps_per_epoch;
    batches_.Shuffle(DeriveSeed(order_seed_, static_cast<uint64_t>(epoch)));
    batches_.Skip(static_cast<size_t>(in_epoch));
    in_pass_ = true;
  }
  return batches_.Next();
}

absl::StatusOr<BatchMetrics> TrainingRun::Gradients(
    const kernels::Batch& batch) {
  ABSL_ASSIGN_OR_RETURN(
      const BatchMetrics metrics,
      network_->ForwardBackward(
          batch, DeriveSeed(step_seed_, static_cast<uint64_t>(step_)),
          [this](size_t begin, size_t end) {
            if (options_.exchange != nullptr) {
              options_.exchange->Ready(begin, end);
            }
          }));
  ABSL_RETURN_IF_ERROR(CheckLoss(metrics.loss, step_));
  return metrics;
}

absl::StatusOr<BatchMetrics> TrainingRun::ExchangedGradients(
    const absl::StatusOr<kernels::Batch>& batch,
    const std::atomic<bool>& stop) {
  GradientExchange* const exchange = options_.exchange;
  const absl::Span<float> gradients = network_->gradients();
  const double weight = batch.ok()
                            ? static_cast<double>(batch->size) /
                                  static_cast<double>(batches_.whole_size())
                            : 0;
  exchange->Start(step_, weight, gradients);
  absl::StatusOr<BatchMetrics> metrics = BatchMetrics();
  if (!batch.ok()) {
    metrics = batch.status();
  } else if (stop.load()) {
    metrics = Stopped();
  } else if (batch->size > 0) {
    metrics = Gradients(*batch);
  } else {
    // Fewer examples than members are left of the epoch.
    std::fill(gradients.begin(), gradients.end(), 0.0f);
    exchange->Ready(0, gradients.size());
  }
  ABSL_RETURN_IF_ERROR(exchange->Finish(metrics.status()));
  return metrics;
}

double TrainingRun::ApplyTerms() {
  const v1::TrainingSpec& spec = *options_.spec;
  const absl::Span<float> gradients = network_->gradients();
  if (spec.proximal_mu() > 0) {
    kernels::AddProximalTerm(spec.proximal_mu(), network_->parameters(),
                             options_.base, gradients);
  }
  const bool clips = spec.clip_norm() > 0;
  if (options_.correction.empty()) {
    return clips ? kernels::ClipFactor(spec.clip_norm(), gradients,
                                       options_.threads)
                 : 1;
  }
  if (clips) kernels::ClipByGlobalNorm(spec.clip_norm(), gradients);
  kernels::AddCorrection(options_.correction, gradients);
  return 1;
}

absl::StatusOr<TrainingTotals> TrainingRun::Step(
    const std::atomic<bool>& stop) {
  GradientExchange* const exchange = options_.exchange;
  // Members of a site must agree on an end: they learn of it in the exchange.
  if (exchange == nullptr && stop.load()) return Stopped();
  const absl::StatusOr<kernels::Batch> batch = NextBatch();
  if (exchange == nullptr) ABSL_RETURN_IF_ERROR(batch.status());
  ABSL_ASSIGN_OR_RETURN(const BatchMetrics metrics,
                        exchange == nullptr ? Gradients(*batch)
                                            : ExchangedGradients(batch, stop));
  const double gradient_factor = ApplyTerms();
  const auto& schedule = options_.spec->schedule();
  const double factor = kernels::LearningRateFactor(
      schedule, schedule.per_round() ? options_.round - 1 : step_);
  optimizer_->Step(factor, gradient_factor, network_->gradients(),
                   network_->parameters());
  rates_ += optimizer_->learning_rate() * factor;
  if (exchange != nullptr) {
    ABSL_RETURN_IF_ERROR(exchange->Stepped(step_, network_->parameters()));
  }
  ++step_;
  TrainingTotals totals;
  totals.Add(metrics, batch->size,
             static_cast<int64_t>(options_.data->positions()));
  return totals;
}

absl::StatusOr<TrainingTotals> TrainingRun::Finish(
    const ProgressCallback& progress, const std::atomic<bool>& stop) {
  const TrainingPlan& plan = options_.plan;
  const int64_t first_measured = plan.steps - plan.steps_per_epoch;
  const int64_t report_every =
      std::max<int64_t>(1, plan.steps / kProgressReports);
  TrainingTotals measured, since_report;
  while (!done()) {
    ABSL_ASSIGN_OR_RETURN(const TrainingTotals totals, Step(stop));
    if (step_ > first_measured) measured.Add(totals);
    since_report.Add(totals);
    if (step_ % report_every == 0 && progress) {
      progress(static_cast<double>(step_) / static_cast<double>(plan.steps),
               since_report.MeanLoss());
      since_report = TrainingTotals();
    }
  }
  return measured;
}

}  // namespace koinon::worker
