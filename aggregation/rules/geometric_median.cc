#include "aggregation/rules/geometric_median.h"

#include <cmath>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "aggregation/geometry/attackers.h"
#include "aggregation/geometry/geometric_median.h"
#include "aggregation/geometry/pre_aggregation.h"
#include "base/status_macros.h"

namespace koinon::aggregation {
namespace {

using Spec = v1::AggregationSpec::GeometricMedian;

constexpr int64_t kMostIterations = 1'000'000;
// RFA's reference implementation (Pillutla et al. 2022).
constexpr int64_t kRfaIterations = 4;
constexpr double kRfaSmoothing = 1e-5;

class GeometricMedianRule final : public Rule {
 public:
  GeometricMedianRule(const Spec& spec, Attackers attackers)
      : spec_(spec), attackers_(std::move(attackers)) {}

  absl::string_view name() const override { return "geometric_median"; }
  bool NeedsDistances() const override { return true; }
  bool UsesWeights() const override { return spec_.weighted(); }
  std::optional<int64_t> AttackersAsked(size_t n) const override {
    if (!attackers_.asked()) return std::nullopt;
    return attackers_.Of(n);
  }

  absl::Status Check(size_t n, size_t m) const override {
    const auto f = static_cast<size_t>(attackers_.Of(n));
    if (2 * f < m) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat(
        "geometric_median with ", attackers_.Describe(n),
        " needs at least 2f + 1 = ", 2 * f + 1, " updates, ", Got(n, m)));
  }

  Decision Decide(const Points& points) const override {
    std::vector<double> weights(points.size(), 1);
    if (spec_.weighted()) {
      weights.assign(points.weights().begin(), points.weights().end());
    }
    Centre centre = spec_.has_fixed()
                        ? Fixed(points, weights)
                        : GeometricMedian(points, weights, Options());
    Decision decision;
    decision.mean = true;
    decision.coefficients = std::move(centre.coefficients);
    decision.scores = std::move(centre.distances);
    decision.iterations = centre.iterations;
    if (!spec_.has_fixed()) decision.converged = centre.converged;
    decision.total_weight =
        std::accumulate(weights.begin(), weights.end(), 0.0);
    return decision;
  }

 private:
  GeometricMedianOptions Options() const {
    GeometricMedianOptions options;
    if (spec_.tolerance() > 0) options.tolerance = spec_.tolerance();
    if (spec_.max_iterations() > 0) {
      options.max_iterations = spec_.max_iterations();
    }
    return options;
  }

  Centre Fixed(const Points& points, const std::vector<double>& weights) const {
    const Spec::Fixed& fixed = spec_.fixed();
    SmoothedWeiszfeldOptions options;
    options.iterations =
        fixed.iterations() > 0 ? fixed.iterations() : kRfaIterations;
    options.smoothing =
        fixed.smoothing() > 0 ? fixed.smoothing() : kRfaSmoothing;
    options.from_zero = fixed.start() == Spec::ZERO;
    return SmoothedWeiszfeld(points, weights, options);
  }

  const Spec spec_;
  const Attackers attackers_;
};

constexpr char kField[] = "aggregation.geometric_median";

absl::Status CheckIterations(absl::string_view field, int64_t iterations) {
  if (iterations >= 0 && iterations <= kMostIterations) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat(kField, field, " is ", iterations, ", expected 1 to ",
                   kMostIterations, ", or 0 for the default"));
}

absl::Status CheckFixed(const Spec& spec) {
  if (spec.tolerance() != 0 || spec.max_iterations() != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        kField, spec.tolerance() != 0 ? ".tolerance" : ".max_iterations",
        " is set, but ", kField,
        ".fixed makes a fixed number of steps: drop one of them"));
  }
  if (!Spec::Start_IsValid(spec.fixed().start())) {
    return absl::InvalidArgumentError(
        absl::StrCat(kField, ".fixed.start is number ", spec.fixed().start(),
                     ", expected MEAN or ZERO"));
  }
  const double smoothing = spec.fixed().smoothing();
  if (!(smoothing >= 0 && std::isfinite(smoothing))) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s.fixed.smoothing is %g, expected a finite number > 0, or 0 for the "
        "default",
        kField, smoothing));
  }
  return CheckIterations(".fixed.iterations", spec.fixed().iterations());
}

}  // namespace

absl::StatusOr<std::unique_ptr<Rule>> MakeGeometricMedian(const Spec& spec) {
  ABSL_ASSIGN_OR_RETURN(
      Attackers attackers,
      Attackers::Create(kField, spec.f(), spec.f_fraction(), 0.5));
  if (spec.has_fixed()) ABSL_RETURN_IF_ERROR(CheckFixed(spec));
  if (!(spec.tolerance() >= 0 && spec.tolerance() < 1)) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s.tolerance is %g, expected a number in (0, 1), or 0 for the default",
        kField, spec.tolerance()));
  }
  ABSL_RETURN_IF_ERROR(
      CheckIterations(".max_iterations", spec.max_iterations()));
  return std::make_unique<GeometricMedianRule>(spec, std::move(attackers));
}

}  // namespace koinon::aggregation
