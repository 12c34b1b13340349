#include "coordinator/jobs/scaffold_spec.h"

#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "coordinator/jobs/field_check.h"
#include "kernels/graph/control_variates.h"

namespace koinon::coordinator {
namespace {

constexpr char kScaffold[] = "training.scaffold";
constexpr char kPopulation[] = "training.scaffold.population";
constexpr int64_t kMaxPopulation = 1'000'000;

// c is the mean of the workers' own: only a plain mean keeps it so.
absl::Status CompleteRule(v1::AggregationSpec* aggregation) {
  using Aggregation = v1::AggregationSpec;
  if (aggregation->rule_case() == Aggregation::RULE_NOT_SET) {
    aggregation->mutable_fedavg()->set_uniform(true);
  }
  if (!aggregation->has_fedavg()) {
    const auto* rule = aggregation->GetReflection()->GetOneofFieldDescriptor(
        *aggregation, Aggregation::descriptor()->FindOneofByName("rule"));
    return FieldConflict(
        kScaffold,
        absl::StrCat("needs the plain mean, but aggregation.", rule->name(),
                     " is set; use aggregation.fedavg { uniform: true }, or "
                     "drop training.scaffold"));
  }
  Aggregation::FedAvg* fedavg = aggregation->mutable_fedavg();
  if (!fedavg->uniform()) {
    return FieldConflict(kScaffold,
                         "needs every worker to count the same, but "
                         "aggregation.fedavg.uniform is not set; set it, or "
                         "leave aggregation out");
  }
  if (aggregation->max_weight() != 0) {
    return FieldConflict(
        kScaffold, absl::StrCat("needs every worker to count the same, but "
                                "aggregation.max_weight is ",
                                aggregation->max_weight(), "; leave it out"));
  }
  if (fedavg->arithmetic() == Aggregation::FedAvg::FIXED_POINT) {
    return FieldConflict(kScaffold,
                         "has control variates, which are gradients and know "
                         "no range, but aggregation.fedavg.arithmetic is "
                         "FIXED_POINT; use DOUBLE");
  }
  fedavg->set_arithmetic(Aggregation::FedAvg::DOUBLE);
  if (aggregation->pre_aggregation_size() > 0) {
    return FieldConflict(
        kScaffold, absl::StrCat("needs the updates as they are, but "
                                "aggregation.pre_aggregation has ",
                                aggregation->pre_aggregation_size(),
                                "; leave it out, or drop training.scaffold"));
  }
  if (aggregation->has_server_optimizer()) {
    return FieldConflict(kScaffold,
                         "takes the mean itself as the server's step, but "
                         "aggregation.server_optimizer is set; use one of the "
                         "two");
  }
  return absl::OkStatus();
}

absl::Status CheckPopulation(const v1::JobSpec& spec) {
  const int64_t population = spec.training().scaffold().population();
  const v1::CohortSpec& cohort = spec.cohort();
  ABSL_RETURN_IF_ERROR(
      CheckInteger(kPopulation, population, 0, kMaxPopulation));
  if (population == 0) {
    if (cohort.target() == 0) return absl::OkStatus();
    return FieldConflict(
        kPopulation,
        absl::StrCat("is not set, which means that each round's cohort is "
                     "everybody, but cohort.target is ",
                     cohort.target(),
                     "; set it to the number of all workers, or leave "
                     "cohort.target out"));
  }
  for (const auto& [field, value] :
       {std::pair("cohort.target", cohort.target()),
        std::pair("cohort.minimum", cohort.minimum())}) {
    if (value > population) {
      return FieldConflict(
          kPopulation,
          absl::StrCat("is ", population, ", fewer than ", field, " ", value,
                       ": it must count all workers that may ever take part"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CompleteScaffold(v1::JobSpec* spec) {
  if (!spec->training().has_scaffold()) return absl::OkStatus();
  ABSL_RETURN_IF_ERROR(kernels::CheckScaffoldTraining(spec->training()));
  if (spec->has_buffer()) {
    return FieldConflict(kScaffold,
                         "needs rounds in which all train from one version, "
                         "but buffer is set; use one of the two");
  }
  ABSL_RETURN_IF_ERROR(CompleteRule(spec->mutable_aggregation()));
  return CheckPopulation(*spec);
}

}  // namespace koinon::coordinator
