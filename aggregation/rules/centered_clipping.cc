#include "aggregation/rules/centered_clipping.h"

#include <cmath>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "aggregation/geometry/centered_clipping.h"

namespace koinon::aggregation {
namespace {

constexpr int64_t kMostIterations = 1'000'000;

class CenteredClippingRule final : public Rule {
 public:
  CenteredClippingRule(double tau, int64_t iterations)
      : tau_(tau), iterations_(iterations) {}

  absl::string_view name() const override { return "centered_clipping"; }
  absl::Status Check(size_t, size_t) const override { return absl::OkStatus(); }
  bool NeedsDistances() const override { return true; }
  bool KeepsAggregate() const override { return true; }

  Decision Decide(const Points& points) const override {
    Centre centre = CenteredClipping(points, tau_, iterations_);
    Decision decision;
    decision.coefficients = std::move(centre.coefficients);
    decision.previous = centre.previous;
    decision.scores = std::move(centre.distances);
    decision.factors = std::move(centre.factors);
    decision.iterations = centre.iterations;
    decision.total_weight = static_cast<double>(points.size());
    return decision;
  }

 private:
  const double tau_;
  const int64_t iterations_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Rule>> MakeCenteredClipping(
    const v1::AggregationSpec::CenteredClipping& spec) {
  if (!(spec.tau() > 0 && std::isfinite(spec.tau()))) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "aggregation.centered_clipping.tau is %g, expected a finite number > 0 "
        "(it has no default: it follows from the length of honest updates)",
        spec.tau()));
  }
  if (spec.iterations() < 0 || spec.iterations() > kMostIterations) {
    return absl::InvalidArgumentError(absl::StrCat(
        "aggregation.centered_clipping.iterations is ", spec.iterations(),
        ", expected 1 to ", kMostIterations, ", or 0 for 1"));
  }
  return std::make_unique<CenteredClippingRule>(
      spec.tau(), spec.iterations() == 0 ? 1 : spec.iterations());
}

}  // namespace koinon::aggregation
