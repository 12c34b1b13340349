#include "aggregation/rules/bulyan.h"

#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "aggregation/geometry/attackers.h"
#include "aggregation/geometry/krum.h"
#include "aggregation/geometry/pre_aggregation.h"
#include "base/status_macros.h"

namespace koinon::aggregation {
namespace {

using Spec = v1::AggregationSpec::Bulyan;

class Bulyan final : public Rule {
 public:
  Bulyan(Attackers attackers, bool one_shot)
      : attackers_(std::move(attackers)), one_shot_(one_shot) {}

  absl::string_view name() const override { return "bulyan"; }
  bool NeedsDistances() const override { return true; }
  bool ReducesColumns() const override { return true; }
  std::optional<int64_t> AttackersAsked(size_t n) const override {
    return attackers_.Of(n);
  }

  absl::Status Check(size_t n, size_t m) const override {
    const auto f = static_cast<size_t>(attackers_.Of(n));
    if (m >= 4 * f + 3) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat(
        "bulyan with ", attackers_.Describe(n),
        " needs at least 4f + 3 = ", 4 * f + 3, " updates, ", Got(n, m)));
  }

  Decision Decide(const Points& points) const override {
    const auto f = static_cast<size_t>(attackers_.Of(points.updates()));
    const size_t m = points.size();
    const size_t theta = m - 2 * f;
    Decision decision;
    decision.scores = KrumScores(points, m - f - 2);
    decision.selects = true;
    decision.selected = one_shot_ ? LowestScores(decision.scores, theta)
                                  : RecursiveKrum(points, f, theta);
    decision.rows = decision.selected;
    ColumnRule& rule = decision.columns.emplace();
    rule.kind = ColumnRule::kMeanAround;
    rule.keep = theta - 2 * f;
    decision.total_weight = static_cast<double>(theta);
    return decision;
  }

 private:
  const Attackers attackers_;
  const bool one_shot_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Rule>> MakeBulyan(const Spec& spec) {
  ABSL_ASSIGN_OR_RETURN(Attackers attackers,
                        Attackers::Create("aggregation.bulyan", spec.f(),
                                          spec.f_fraction(), 0.25));
  if (!Spec::Selection_IsValid(spec.selection())) {
    return absl::InvalidArgumentError(
        absl::StrCat("aggregation.bulyan.selection is number ",
                     spec.selection(), ", expected RECURSIVE or ONE_SHOT"));
  }
  return std::make_unique<Bulyan>(std::move(attackers),
                                  spec.selection() == Spec::ONE_SHOT);
}

}  // namespace koinon::aggregation
