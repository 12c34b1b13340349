#include "aggregation/rules/fedavg.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "aggregation/core/combine.h"
#include "base/status_macros.h"

namespace koinon::aggregation {
namespace {

class FedAvg final : public Aggregator {
 public:
  FedAvg(bool uniform, double max_weight)
      : uniform_(uniform), max_weight_(max_weight) {}

  absl::Status Validate(const UpdateSet& set) const override {
    if (!set.layout().AllF32()) {
      return absl::FailedPreconditionError(
          "fedavg needs a model of F32 tensors only");
    }
    if (set.size() == 0) {
      return absl::FailedPreconditionError(
          "fedavg needs at least 1 update, got 0");
    }
    return absl::OkStatus();
  }

  absl::StatusOr<v1::AggregationReport> Aggregate(
      const UpdateSet& set, const AggregationContext& context,
      UpdateSink* out) const override {
    ABSL_RETURN_IF_ERROR(Validate(set));
    v1::AggregationReport report;
    report.set_rule("fedavg");
    double total_weight = 0;
    std::vector<double> weights;
    for (size_t i = 0; i < set.size(); ++i) {
      weights.push_back(WeightOf(set, i));
      total_weight += weights.back();
    }
    const ExactWeights exact = ExactWeights::Of(weights);
    ABSL_RETURN_IF_ERROR(CombineUpdates(set, exact, context.pool, out));
    report.set_total_weight(total_weight);
    const std::vector<double> normalised = exact.Normalised();
    for (size_t i = 0; i < set.size(); ++i) {
      v1::UpdateDecision* decision = report.add_updates();
      decision->set_worker(set.worker(i));
      decision->set_coefficient(normalised[i]);
    }
    return report;
  }

 private:
  double WeightOf(const UpdateSet& set, size_t i) const {
    if (uniform_) return 1;
    return max_weight_ > 0 ? std::min(set.weight(i), max_weight_)
                           : set.weight(i);
  }

  const bool uniform_;
  const double max_weight_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Aggregator>> MakeFedAvg(
    const v1::AggregationSpec::FedAvg& spec, double max_weight) {
  if (!(max_weight >= 0) || !std::isfinite(max_weight)) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "aggregation.max_weight is %g, expected a number >= 0", max_weight));
  }
  if (spec.uniform() && max_weight > 0) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "aggregation.max_weight is %g, but aggregation.fedavg.uniform ignores "
        "weights: set one of them",
        max_weight));
  }
  using Spec = v1::AggregationSpec::FedAvg;
  if (!Spec::Arithmetic_IsValid(spec.arithmetic())) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "aggregation.fedavg.arithmetic is number %d, expected DOUBLE or "
        "FIXED_POINT",
        spec.arithmetic()));
  }
  if (spec.has_fixed_point() && spec.arithmetic() != Spec::FIXED_POINT) {
    return absl::InvalidArgumentError(
        "aggregation.fedavg.fixed_point: has no effect without "
        "aggregation.fedavg.arithmetic FIXED_POINT");
  }
  return std::make_unique<FedAvg>(spec.uniform(), max_weight);
}

}  // namespace koinon::aggregation
