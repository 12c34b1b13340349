#include "coordinator/jobs/arithmetic_spec.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "aggregation/core/fixed_point.h"
#include "base/status_macros.h"
#include "coordinator/jobs/field_check.h"

namespace koinon::coordinator {
namespace {

using FedAvg = v1::AggregationSpec::FedAvg;

constexpr char kArithmetic[] = "aggregation.fedavg.arithmetic";
// Rounds of so many updates are added up on arrival unless the job says
// otherwise: the spool would have to hold them all.
constexpr int64_t kManyUpdates = 256;

bool CanAddOnArrival(const v1::JobSpec& spec) {
  return spec.aggregation().pre_aggregation_size() == 0 && !spec.has_buffer() &&
         !spec.training().has_scaffold();
}

// Every update weighs at least 1.
absl::Status CheckTotalWeight(const v1::JobSpec& spec) {
  ABSL_ASSIGN_OR_RETURN(const auto format, aggregation::FixedPoint::Of(
                                               spec.aggregation().fedavg()));
  const int64_t updates =
      std::max(spec.cohort().target(), spec.cohort().minimum());
  if (static_cast<double>(updates) <= format.total_weight) {
    return absl::OkStatus();
  }
  return FieldConflict(
      "aggregation.fedavg.fixed_point.total_weight",
      absl::StrCat("is ", format.total_weight, ", but the round wants ",
                   updates, " updates, each of which weighs at least 1"));
}

}  // namespace

absl::Status CompleteArithmetic(v1::JobSpec* spec) {
  v1::AggregationSpec* aggregation = spec->mutable_aggregation();
  if (aggregation->rule_case() != v1::AggregationSpec::RULE_NOT_SET &&
      !aggregation->has_fedavg()) {
    return absl::OkStatus();
  }
  FedAvg* fedavg = aggregation->mutable_fedavg();
  if (fedavg->arithmetic() == FedAvg::ARITHMETIC_UNSPECIFIED) {
    const bool many = spec->cohort().target() >= kManyUpdates;
    fedavg->set_arithmetic(many && CanAddOnArrival(*spec) ? FedAvg::FIXED_POINT
                                                          : FedAvg::DOUBLE);
  }
  if (fedavg->arithmetic() != FedAvg::FIXED_POINT) return absl::OkStatus();
  if (spec->has_buffer()) {
    return FieldConflict(
        kArithmetic,
        "is FIXED_POINT, which adds each update on arrival, before its "
        "staleness in the buffer is known; use DOUBLE, or drop buffer");
  }
  if (spec->training().has_scaffold()) {
    return FieldConflict(
        kArithmetic,
        "is FIXED_POINT, which has one range for all values, but "
        "training.scaffold's control variates know none; use DOUBLE");
  }
  return CheckTotalWeight(*spec);
}

}  // namespace koinon::coordinator
