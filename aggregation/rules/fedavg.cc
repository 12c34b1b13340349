#include "aggregation/rules/fedavg.h"

#include <numeric>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace koinon::aggregation {
namespace {

class FedAvg final : public Rule {
 public:
  explicit FedAvg(bool uniform) : uniform_(uniform) {}

  absl::string_view name() const override { return "fedavg"; }
  absl::Status Check(size_t, size_t) const override { return absl::OkStatus(); }
  bool NeedsDistances() const override { return false; }
  bool UsesWeights() const override { return !uniform_; }

  Decision Decide(const Points& points) const override {
    Decision decision;
    decision.mean = true;
    decision.coefficients = uniform_
                                ? std::vector<double>(points.size(), 1)
                                : std::vector<double>(points.weights().begin(),
                                                      points.weights().end());
    decision.total_weight = std::accumulate(decision.coefficients.begin(),
                                            decision.coefficients.end(), 0.0);
    return decision;
  }

 private:
  const bool uniform_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Rule>> MakeFedAvg(
    const v1::AggregationSpec::FedAvg& spec) {
  if (spec.has_fixed_point()) {
    return absl::InvalidArgumentError(
        "aggregation.fedavg.fixed_point is for aggregation.fedavg.arithmetic "
        "FIXED_POINT, but it is DOUBLE: set the one or drop the other");
  }
  return std::make_unique<FedAvg>(spec.uniform());
}

}  // namespace koinon::aggregation
