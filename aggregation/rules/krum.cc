#include "aggregation/rules/krum.h"

#include <algorithm>
#include <string>
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

using Convention = v1::AggregationSpec::KrumConvention;

// a - b, at least `floor`.
size_t Less(size_t a, size_t b, size_t floor) {
  return a > b + floor ? a - b : floor;
}

class KrumFamily final : public Rule {
 public:
  // m: how many are chosen; 0: the convention's default. One: Krum.
  KrumFamily(absl::string_view name, Attackers attackers, Convention convention,
             size_t m)
      : name_(name),
        attackers_(std::move(attackers)),
        convention_(convention),
        m_(m) {}

  absl::string_view name() const override { return name_; }
  bool NeedsDistances() const override { return true; }
  bool UsesWeights() const override {
    return name_ == "multi_krum" && convention_ == v1::AggregationSpec::FLOWER;
  }
  std::optional<int64_t> AttackersAsked(size_t n) const override {
    return attackers_.Of(n);
  }

  absl::Status Check(size_t n, size_t points) const override {
    const size_t f = F(n);
    if (points < Least(f)) {
      return absl::FailedPreconditionError(absl::StrCat(
          name_, " (", ConventionName(), ") with ", attackers_.Describe(n),
          " needs at least ", LeastFormula(), " = ", Least(f), " updates, ",
          Got(n, points)));
    }
    if (m_ > Most(points, f)) {
      return absl::FailedPreconditionError(absl::StrCat(
          name_, " (", ConventionName(), ") with ", attackers_.Describe(n),
          " and m = ", m_, " needs m of at most ", MostFormula(), " = ",
          Most(points, f), ", as it ", Got(n, points), " updates"));
    }
    return absl::OkStatus();
  }

  Decision Decide(const Points& points) const override {
    const size_t f = F(points.updates());
    Decision decision;
    decision.scores = KrumScores(points, Neighbours(points.size(), f));
    decision.selects = true;
    decision.selected =
        LowestScores(decision.scores, m_ > 0 ? m_ : Most(points.size(), f, 1));
    decision.mean = true;
    decision.coefficients.resize(points.size());
    for (size_t i : decision.selected) {
      decision.coefficients[i] = UsesWeights() ? points.weight(i) : 1;
      decision.total_weight += decision.coefficients[i];
    }
    return decision;
  }

 private:
  size_t F(size_t n) const { return static_cast<size_t>(attackers_.Of(n)); }

  size_t Neighbours(size_t points, size_t f) const {
    return convention_ == v1::AggregationSpec::BYZFL ? Less(points, f + 1, 0)
                                                     : Less(points, f + 2, 1);
  }

  // The fewest points, and in words.
  size_t Least(size_t f) const {
    if (convention_ == v1::AggregationSpec::FLOWER) return f + 1;
    return convention_ == v1::AggregationSpec::BYZFL ? 2 * f + 1 : 2 * f + 3;
  }
  absl::string_view LeastFormula() const {
    if (convention_ == v1::AggregationSpec::FLOWER) return "f + 1";
    return convention_ == v1::AggregationSpec::BYZFL ? "2f + 1" : "2f + 3";
  }

  // The largest m; by default, m is the largest with a guarantee.
  size_t Most(size_t points, size_t f, bool by_default = false) const {
    if (convention_ == v1::AggregationSpec::BYZFL) return Less(points, f, 1);
    if (convention_ == v1::AggregationSpec::FLOWER && !by_default) {
      return points;
    }
    return Less(points, f + 2, 1);
  }
  absl::string_view MostFormula() const {
    if (convention_ == v1::AggregationSpec::FLOWER) return "n";
    return convention_ == v1::AggregationSpec::BYZFL ? "n - f" : "n - f - 2";
  }

  absl::string_view ConventionName() const {
    if (convention_ == v1::AggregationSpec::FLOWER) return "FLOWER";
    return convention_ == v1::AggregationSpec::BYZFL ? "BYZFL" : "BLANCHARD";
  }

  const absl::string_view name_;
  const Attackers attackers_;
  const Convention convention_;
  const size_t m_;
};

absl::StatusOr<std::unique_ptr<Rule>> Make(absl::string_view name, int64_t f,
                                           double f_fraction,
                                           Convention convention, size_t m) {
  const std::string field = absl::StrCat("aggregation.", name);
  ABSL_ASSIGN_OR_RETURN(Attackers attackers,
                        Attackers::Create(field, f, f_fraction, 0.5));
  if (!v1::AggregationSpec::KrumConvention_IsValid(convention)) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, ".convention is number ", convention,
                     ", expected BLANCHARD, FLOWER or BYZFL"));
  }
  return std::make_unique<KrumFamily>(name, std::move(attackers), convention,
                                      m);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Rule>> MakeKrum(
    const v1::AggregationSpec::Krum& spec) {
  return Make("krum", spec.f(), spec.f_fraction(), spec.convention(), 1);
}

absl::StatusOr<std::unique_ptr<Rule>> MakeMultiKrum(
    const v1::AggregationSpec::MultiKrum& spec) {
  if (spec.m() < 0 || spec.m() > Attackers::kMost) {
    return absl::InvalidArgumentError(absl::StrCat(
        "aggregation.multi_krum.m is ", spec.m(), ", expected 1 to ",
        Attackers::kMost, ", or 0 for the convention's default"));
  }
  return Make("multi_krum", spec.f(), spec.f_fraction(), spec.convention(),
              static_cast<size_t>(spec.m()));
}

}  // namespace koinon::aggregation
