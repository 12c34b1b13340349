#include "aggregation/rules/median.h"

#include <cstdint>
#include <numeric>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "aggregation/geometry/attackers.h"
#include "aggregation/geometry/pre_aggregation.h"
#include "base/status_macros.h"

namespace koinon::aggregation {
namespace {

class Median final : public Rule {
 public:
  Median(bool weighted, Attackers attackers)
      : weighted_(weighted), attackers_(std::move(attackers)) {}

  absl::string_view name() const override { return "median"; }
  bool NeedsDistances() const override { return false; }
  bool UsesWeights() const override { return weighted_; }
  bool ReducesColumns() const override { return true; }
  std::optional<int64_t> AttackersAsked(size_t n) const override {
    if (!attackers_.asked()) return std::nullopt;
    return attackers_.Of(n);
  }

  absl::Status Check(size_t n, size_t m) const override {
    const auto f = static_cast<size_t>(attackers_.Of(n));
    if (2 * f < m) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat(
        "median with ", attackers_.Describe(n),
        " needs at least 2f + 1 = ", 2 * f + 1, " updates, ", Got(n, m)));
  }

  Decision Decide(const Points& points) const override {
    Decision decision;
    ColumnRule& rule = decision.columns.emplace();
    if (!weighted_) {
      rule.kind = ColumnRule::kMedian;
      decision.total_weight = static_cast<double>(points.size());
      decision.trimmed_per_side = static_cast<int64_t>((points.size() - 1) / 2);
      return decision;
    }
    rule.kind = ColumnRule::kWeightedMedian;
    rule.weights.assign(points.weights().begin(), points.weights().end());
    decision.total_weight =
        std::accumulate(rule.weights.begin(), rule.weights.end(), 0.0);
    return decision;
  }

 private:
  const bool weighted_;
  const Attackers attackers_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Rule>> MakeMedian(
    const v1::AggregationSpec::Median& spec) {
  ABSL_ASSIGN_OR_RETURN(Attackers attackers,
                        Attackers::Create("aggregation.median", spec.f(),
                                          spec.f_fraction(), 0.5));
  return std::make_unique<Median>(spec.weighted(), std::move(attackers));
}

}  // namespace koinon::aggregation
