#include "aggregation/rules/trimmed_mean.h"

#include <cmath>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "aggregation/geometry/attackers.h"
#include "aggregation/geometry/pre_aggregation.h"

namespace koinon::aggregation {
namespace {

using Spec = v1::AggregationSpec::TrimmedMean;

class TrimmedMean final : public Rule {
 public:
  explicit TrimmedMean(const Spec& spec) : spec_(spec) {}

  absl::string_view name() const override { return "trimmed_mean"; }
  bool NeedsDistances() const override { return false; }
  bool ReducesColumns() const override { return true; }
  std::optional<int64_t> AttackersAsked(size_t) const override {
    if (!spec_.has_f()) return std::nullopt;
    return spec_.f();
  }

  absl::Status Check(size_t n, size_t m) const override {
    const size_t trim = Trim(m);
    if (2 * trim >= m) {
      return absl::FailedPreconditionError(absl::StrCat(
          "trimmed_mean with f = ", trim,
          " needs at least 2f + 1 = ", 2 * trim + 1, " updates, ", Got(n, m)));
    }
    if (trim == 0 && spec_.beta() > 0) {
      return absl::FailedPreconditionError(absl::StrFormat(
          "trimmed_mean with beta = %g needs at least %.0f updates to trim "
          "any, "
          "%s",
          spec_.beta(), std::ceil((1 - 1e-9) / spec_.beta()), Got(n, m)));
    }
    return absl::OkStatus();
  }

  Decision Decide(const Points& points) const override {
    Decision decision;
    ColumnRule& rule = decision.columns.emplace();
    rule.kind = ColumnRule::kTrimmedMean;
    rule.trim = Trim(points.size());
    decision.trimmed_per_side = static_cast<int64_t>(rule.trim);
    decision.total_weight = static_cast<double>(points.size());
    return decision;
  }

 private:
  // Of m values, on each side.
  size_t Trim(size_t m) const {
    if (spec_.has_f()) return static_cast<size_t>(spec_.f());
    return static_cast<size_t>(
        std::floor(spec_.beta() * static_cast<double>(m) + 1e-9));
  }

  const Spec spec_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Rule>> MakeTrimmedMean(const Spec& spec) {
  if (spec.has_f() == spec.has_beta()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "aggregation.trimmed_mean.f and aggregation.trimmed_mean.beta are ",
        spec.has_f() ? "both" : "not", " set, expected exactly one of them"));
  }
  if (spec.f() < 0 || spec.f() > Attackers::kMost) {
    return absl::InvalidArgumentError(
        absl::StrCat("aggregation.trimmed_mean.f is ", spec.f(),
                     ", expected 0 to ", Attackers::kMost));
  }
  if (!(spec.beta() >= 0 && spec.beta() < 0.5)) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "aggregation.trimmed_mean.beta is %g, expected a number in [0, 0.5)",
        spec.beta()));
  }
  return std::make_unique<TrimmedMean>(spec);
}

}  // namespace koinon::aggregation
