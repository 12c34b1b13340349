#include "coordinator/jobs/job_spec.h"

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "aggregation/core/aggregator.h"
#include "aggregation/server/server_optimizer.h"
#include "base/ids.h"
#include "base/status_macros.h"
#include "coordinator/jobs/arithmetic_spec.h"
#include "coordinator/jobs/buffer_spec.h"
#include "coordinator/jobs/field_check.h"
#include "coordinator/jobs/scaffold_spec.h"
#include "coordinator/jobs/training_spec.h"
#include "kernels/graph/model_graph.h"

namespace koinon::coordinator {
namespace {

constexpr int64_t kMaxRounds = 1'000'000;
constexpr int64_t kMaxWorkers = 1'000'000;
constexpr int64_t kMaxRetries = 1'000;
constexpr double kMaxOverSelection = 10;
constexpr int64_t kMaxPriority = 100;
// Shorter ones pass before a message can be answered.
constexpr double kMinDeadlineSeconds = 0.1;
constexpr double kMaxDeadlineSeconds = 30 * 24 * 3600;
constexpr double kMaxLossThreshold = 1e9;

// What the zero of a field stands for.
constexpr int64_t kRetries = 3;
constexpr double kRoundDeadlineSeconds = 600;
constexpr double kEvaluationDeadlineSeconds = 120;

absl::Status CheckDeadline(absl::string_view field, double seconds) {
  return CheckNumber(field, seconds,
                     {kMinDeadlineSeconds, kMaxDeadlineSeconds});
}

// What the rule asks of a cohort.
struct RuleNeeds {
  std::string rule;  // "multi_krum"
  std::unique_ptr<aggregation::Aggregator> aggregator;

  int64_t min_updates() const {
    return static_cast<int64_t>(aggregator->MinUpdates());
  }

  absl::Status Check(absl::string_view field, int64_t updates) const {
    if (updates >= min_updates()) return absl::OkStatus();
    return FieldConflict(
        field,
        absl::StrCat("is ", updates, ", but ", rule,
                     " with these options needs at least ", min_updates(),
                     " updates: such a round could never be "
                     "aggregated"));
  }

  // `updates` are what a full round has.
  absl::Status CheckFull(absl::string_view field, int64_t updates) const {
    ABSL_RETURN_IF_ERROR(Check(field, updates));
    const absl::Status count =
        aggregator->CheckCount(static_cast<size_t>(updates));
    if (count.ok()) return count;
    return FieldConflict(
        field, absl::StrCat("is ", updates, ", but ", count.message(),
                            ": such a round could never be aggregated"));
  }
};

absl::Status CompleteCohort(const RuleNeeds& needs, v1::CohortSpec* cohort) {
  if (cohort->minimum() == 0) cohort->set_minimum(needs.min_updates());
  if (cohort->over_selection() == 0) cohort->set_over_selection(1);
  if (cohort->deadline_seconds() == 0) {
    cohort->set_deadline_seconds(kRoundDeadlineSeconds);
  }
  if (cohort->retries() == 0) cohort->set_retries(kRetries);
  ABSL_RETURN_IF_ERROR(
      CheckInteger("cohort.target", cohort->target(), 0, kMaxWorkers));
  ABSL_RETURN_IF_ERROR(
      CheckInteger("cohort.minimum", cohort->minimum(), 1, kMaxWorkers));
  ABSL_RETURN_IF_ERROR(CheckNumber("cohort.over_selection",
                                   cohort->over_selection(),
                                   {1, kMaxOverSelection}));
  ABSL_RETURN_IF_ERROR(
      CheckDeadline("cohort.deadline_seconds", cohort->deadline_seconds()));
  ABSL_RETURN_IF_ERROR(
      CheckInteger("cohort.retries", cohort->retries(), 1, kMaxRetries));
  if (cohort->target() > 0) {
    ABSL_RETURN_IF_ERROR(needs.Check("cohort.target", cohort->target()));
  }
  ABSL_RETURN_IF_ERROR(needs.Check("cohort.minimum", cohort->minimum()));
  if (cohort->target() > 0 && cohort->minimum() > cohort->target()) {
    return FieldConflict(
        "cohort.minimum",
        absl::StrCat("is ", cohort->minimum(), ", more than cohort.target ",
                     cohort->target(), ": such a round could never close"));
  }
  if (cohort->target() == 0 && cohort->over_selection() > 1) {
    return FieldConflict(
        "cohort.over_selection",
        absl::StrCat("is ", cohort->over_selection(),
                     ", but has no effect without cohort.target: every "
                     "worker is asked"));
  }
  return absl::OkStatus();
}

void CompleteVariant(v1::ServerOptimizer::Adaptive* adaptive) {
  if (adaptive->variant() ==
      v1::ServerOptimizer::Adaptive::VARIANT_UNSPECIFIED) {
    adaptive->set_variant(v1::ServerOptimizer::Adaptive::PAPER);
  }
}

absl::Status CompleteServerOptimizer(v1::ServerOptimizer* optimizer) {
  switch (optimizer->kind_case()) {
    case v1::ServerOptimizer::kFedadagrad:
      CompleteVariant(optimizer->mutable_fedadagrad());
      break;
    case v1::ServerOptimizer::kFedadam:
      CompleteVariant(optimizer->mutable_fedadam());
      break;
    case v1::ServerOptimizer::kFedyogi:
      CompleteVariant(optimizer->mutable_fedyogi());
      break;
    case v1::ServerOptimizer::KIND_NOT_SET:
      return FieldError("aggregation.server_optimizer", "empty",
                        "fedavgm, fedadagrad, fedadam, fedyogi or diloco");
    default:
      break;
  }
  return aggregation::MakeServerOptimizer(*optimizer).status();
}

absl::StatusOr<RuleNeeds> CompleteAggregation(
    v1::AggregationSpec* aggregation) {
  if (aggregation->rule_case() == v1::AggregationSpec::RULE_NOT_SET) {
    aggregation->mutable_fedavg();
  }
  auto aggregator = aggregation::MakeAggregator(*aggregation);
  ABSL_RETURN_IF_ERROR(InField("aggregation", aggregator.status()));
  if (aggregation->has_server_optimizer()) {
    ABSL_RETURN_IF_ERROR(
        CompleteServerOptimizer(aggregation->mutable_server_optimizer()));
  }
  const auto* rule = aggregation->GetReflection()->GetOneofFieldDescriptor(
      *aggregation, aggregation->GetDescriptor()->FindOneofByName("rule"));
  return RuleNeeds{rule->name(), *std::move(aggregator)};
}

absl::Status CompleteEvaluation(v1::EvaluationSpec* evaluation) {
  if (evaluation->every_rounds() == 0) evaluation->set_every_rounds(1);
  if (evaluation->every_rounds() < 0) evaluation->set_every_rounds(-1);
  if (evaluation->deadline_seconds() == 0) {
    evaluation->set_deadline_seconds(kEvaluationDeadlineSeconds);
  }
  ABSL_RETURN_IF_ERROR(CheckInteger(
      "evaluation.every_rounds", evaluation->every_rounds(), -1, kMaxRounds));
  return CheckDeadline("evaluation.deadline_seconds",
                       evaluation->deadline_seconds());
}

absl::Status CheckStop(const v1::JobSpec& spec) {
  const v1::StopSpec& stop = spec.stop();
  ABSL_RETURN_IF_ERROR(
      CheckInteger("stop.patience", stop.patience(), 0, kMaxRounds));
  if (stop.metric().empty()) {
    if (stop.threshold() == 0 && stop.patience() == 0) return absl::OkStatus();
    return FieldConflict(
        "stop.metric",
        "is empty, but stop.threshold or stop.patience is set; expected "
        "accuracy or loss");
  }
  const bool accuracy = stop.metric() == "accuracy";
  if (!accuracy && stop.metric() != "loss") {
    return FieldError("stop.metric", Quoted(stop.metric()), "accuracy or loss");
  }
  ABSL_RETURN_IF_ERROR(CheckNumber("stop.threshold", stop.threshold(),
                                   {0, accuracy ? 1 : kMaxLossThreshold}));
  if (stop.threshold() == 0 && stop.patience() == 0) {
    return FieldConflict("stop.metric",
                         absl::StrCat("is ", stop.metric(),
                                      ", but neither stop.threshold nor "
                                      "stop.patience says when to stop"));
  }
  if (spec.evaluation().every_rounds() < 0) {
    return FieldConflict(
        "stop.metric",
        absl::StrCat("is ", stop.metric(), ", but evaluation.every_rounds ",
                     "is negative: nothing is evaluated"));
  }
  if (accuracy &&
      spec.training().loss() == v1::TrainingSpec::MEAN_SQUARED_ERROR) {
    return FieldConflict("stop.metric",
                         "is accuracy, which a regression "
                         "(training.loss MEAN_SQUARED_ERROR) does not have; "
                         "expected loss");
  }
  return absl::OkStatus();
}

absl::Status CheckInitialModel(const std::string& initial_model) {
  if (initial_model.empty()) return absl::OkStatus();
  const absl::Status error = FieldError("initial_model", Quoted(initial_model),
                                        "JOB@VERSION, such as digits-1@12");
  const size_t at = initial_model.find('@');
  if (at == std::string::npos) return error;
  int64_t version = 0;
  const std::string digits = initial_model.substr(at + 1);
  const bool is_number =
      !digits.empty() &&
      digits.find_first_not_of("0123456789") == std::string::npos &&
      absl::SimpleAtoi(digits, &version);
  if (!is_number || !ValidateId("job name", initial_model.substr(0, at)).ok()) {
    return error;
  }
  return absl::OkStatus();
}

absl::Status CheckModel(const v1::JobSpec& spec) {
  const auto graph = kernels::ModelGraph::Build(spec.model());
  ABSL_RETURN_IF_ERROR(InField("model", graph.status()));
  if (graph->output_positions() > 1 &&
      spec.training().loss() == v1::TrainingSpec::MEAN_SQUARED_ERROR) {
    return FieldConflict(
        "training.loss",
        absl::StrCat("is MEAN_SQUARED_ERROR, but the model has outputs at ",
                     graph->output_positions(),
                     " positions; expected SOFTMAX_CROSS_ENTROPY"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::JobSpec> ValidateJobSpec(v1::JobSpec spec) {
  ABSL_RETURN_IF_ERROR(InField("name", ValidateId("job name", spec.name())));
  ABSL_RETURN_IF_ERROR(CheckModel(spec));
  ABSL_RETURN_IF_ERROR(
      InField("dataset", ValidateId("dataset name", spec.dataset())));
  ABSL_RETURN_IF_ERROR(CompleteTrainingSpec(spec.mutable_training()));
  ABSL_RETURN_IF_ERROR(CompleteScaffold(&spec));
  ABSL_RETURN_IF_ERROR(CompleteArithmetic(&spec));
  ABSL_ASSIGN_OR_RETURN(const RuleNeeds needs,
                        CompleteAggregation(spec.mutable_aggregation()));
  ABSL_RETURN_IF_ERROR(CompleteCohort(needs, spec.mutable_cohort()));
  ABSL_RETURN_IF_ERROR(CompleteBuffer(&spec));
  if (spec.has_buffer()) {
    ABSL_RETURN_IF_ERROR(needs.CheckFull("buffer.size", spec.buffer().size()));
  } else if (spec.cohort().target() > 0) {
    ABSL_RETURN_IF_ERROR(
        needs.CheckFull("cohort.target", spec.cohort().target()));
  }
  ABSL_RETURN_IF_ERROR(CompleteEvaluation(spec.mutable_evaluation()));
  ABSL_RETURN_IF_ERROR(CheckInteger("rounds", spec.rounds(), 1, kMaxRounds));
  ABSL_RETURN_IF_ERROR(CheckStop(spec));
  ABSL_RETURN_IF_ERROR(
      CheckInteger("priority", spec.priority(), -kMaxPriority, kMaxPriority));
  ABSL_RETURN_IF_ERROR(CheckInitialModel(spec.initial_model()));
  return spec;
}

}  // namespace koinon::coordinator
