#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "aggregation/core/aggregator.h"
#include "aggregation/geometry/pre_aggregation.h"
#include "aggregation/rules/bulyan.h"
#include "aggregation/rules/centered_clipping.h"
#include "aggregation/rules/fedavg.h"
#include "aggregation/rules/fixed_point_mean.h"
#include "aggregation/rules/geometric_median.h"
#include "aggregation/rules/krum.h"
#include "aggregation/rules/median.h"
#include "aggregation/rules/pipeline.h"
#include "aggregation/rules/trimmed_mean.h"
#include "base/status_macros.h"

namespace koinon::aggregation {
namespace {

using Spec = v1::AggregationSpec;

absl::StatusOr<std::unique_ptr<Rule>> MakeRule(const Spec& spec) {
  switch (spec.rule_case()) {
    case Spec::RULE_NOT_SET:  // the default
    case Spec::kFedavg:
      return MakeFedAvg(spec.fedavg());
    case Spec::kMedian:
      return MakeMedian(spec.median());
    case Spec::kTrimmedMean:
      return MakeTrimmedMean(spec.trimmed_mean());
    case Spec::kKrum:
      return MakeKrum(spec.krum());
    case Spec::kMultiKrum:
      return MakeMultiKrum(spec.multi_krum());
    case Spec::kBulyan:
      return MakeBulyan(spec.bulyan());
    case Spec::kGeometricMedian:
      return MakeGeometricMedian(spec.geometric_median());
    case Spec::kCenteredClipping:
      return MakeCenteredClipping(spec.centered_clipping());
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "aggregation.rule is number ", spec.rule_case(),
      ", expected fedavg, median, trimmed_mean, krum, multi_krum, bulyan, "
      "geometric_median or centered_clipping"));
}

// What would make the rule use example counts.
absl::string_view HowToUseWeights(const Spec& spec) {
  switch (spec.rule_case()) {
    case Spec::RULE_NOT_SET:
    case Spec::kFedavg:
      return "as aggregation.fedavg.uniform is set: drop one of them";
    case Spec::kMedian:
      return "unless aggregation.median.weighted is set: drop "
             "aggregation.max_weight, or set it";
    case Spec::kGeometricMedian:
      return "unless aggregation.geometric_median.weighted is set: drop "
             "aggregation.max_weight, or set it";
    case Spec::kMultiKrum:
      return "unless aggregation.multi_krum.convention is FLOWER: drop "
             "aggregation.max_weight";
    default:
      return "as they are an attack surface: drop aggregation.max_weight";
  }
}

absl::Status CheckMaxWeight(const Spec& spec, absl::string_view rule,
                            bool uses_weights) {
  if (spec.max_weight() < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("aggregation.max_weight is ", spec.max_weight(),
                     ", expected at least 0 (0: no cap)"));
  }
  if (spec.max_weight() == 0 || uses_weights) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("aggregation.max_weight is ", spec.max_weight(), ", but ",
                   rule, " ignores example counts, ", HowToUseWeights(spec)));
}

absl::Status CheckArithmetic(const Spec::FedAvg& spec) {
  if (Spec::FedAvg::Arithmetic_IsValid(spec.arithmetic())) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("aggregation.fedavg.arithmetic is number ",
                   spec.arithmetic(), ", expected DOUBLE or FIXED_POINT"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Aggregator>> MakeAggregator(
    const Spec& spec, const AggregatorOptions& options) {
  ABSL_RETURN_IF_ERROR(ResolveInstructionSet(options.instruction_set).status());
  ABSL_RETURN_IF_ERROR(CheckArithmetic(spec.fedavg()));
  if (spec.has_server_optimizer() && spec.server_optimizer().kind_case() ==
                                         v1::ServerOptimizer::KIND_NOT_SET) {
    return absl::InvalidArgumentError(
        "aggregation.server_optimizer is empty or unknown, expected fedavgm, "
        "fedadagrad, fedadam, fedyogi or diloco");
  }
  if (spec.fedavg().arithmetic() == Spec::FedAvg::FIXED_POINT) {
    ABSL_RETURN_IF_ERROR(
        CheckMaxWeight(spec, "fedavg", !spec.fedavg().uniform()));
    return MakeFixedPointMean(spec, options);
  }
  ABSL_ASSIGN_OR_RETURN(std::unique_ptr<Rule> rule, MakeRule(spec));
  ABSL_RETURN_IF_ERROR(CheckMaxWeight(spec, rule->name(), rule->UsesWeights()));
  std::vector<PreAggregation> steps;
  for (int k = 0; k < spec.pre_aggregation_size(); ++k) {
    ABSL_ASSIGN_OR_RETURN(
        PreAggregation step,
        PreAggregation::Create(
            spec.pre_aggregation(k),
            absl::StrCat("aggregation.pre_aggregation[", k, "]")));
    steps.push_back(std::move(step));
  }
  return MakePipeline(std::move(steps), std::move(rule),
                      static_cast<double>(spec.max_weight()),
                      options.instruction_set);
}

}  // namespace koinon::aggregation
