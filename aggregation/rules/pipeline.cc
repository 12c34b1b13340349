#include "aggregation/rules/pipeline.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "aggregation/core/columns.h"
#include "aggregation/core/combine.h"
#include "aggregation/core/gram.h"
#include "aggregation/core/rows.h"
#include "base/random.h"
#include "base/status_macros.h"

namespace koinon::aggregation {
namespace {

// The search for the fewest updates ends here: no round is larger.
constexpr size_t kMostUpdates = 1 << 16;
// A sum of coefficients this close to 1 is one that was rounded.
constexpr double kRounding = 1e-9;

bool IsDiscounted(const UpdateSet& set) {
  for (size_t i = 0; i < set.size(); ++i) {
    if (set.discount(i) != 1) return true;
  }
  return false;
}

// The updates as points. max_weight: 0 for no cap; gram: null if nobody asks
// for distances.
Points PointsOf(const UpdateSet& set, double max_weight, const Gram* gram) {
  std::vector<double> weights, discounts;
  for (size_t i = 0; i < set.size(); ++i) {
    const double weight = set.weight(i);
    weights.push_back(max_weight > 0 ? std::min(weight, max_weight) : weight);
    discounts.push_back(set.discount(i));
  }
  return gram == nullptr ? Points(weights, discounts)
                         : Points(*gram, weights, discounts);
}

// The coefficients of the updates, then that of the previous aggregate.
ExactWeights CombinationOf(const Points& points, const Decision& decision) {
  std::vector<double> coefficients = decision.coefficients;
  if (decision.mean) {
    // Whole example counts are exact as they stand.
    if (points.AreUpdates()) {
      coefficients.push_back(0);
      return ExactWeights::Of(coefficients);
    }
    double sum = 0;
    for (double part : coefficients) sum += part;
    for (double& part : coefficients) part /= sum;
  }
  std::vector<double> all = points.OverUpdates(coefficients);
  all.push_back(decision.previous);
  double sum = 0;
  for (double part : all) sum += part;
  // A mean of the largest values must not be larger.
  return std::fabs(sum - 1) < kRounding ? ExactWeights::Of(all)
                                        : ExactWeights::Linear(all);
}

// The rows that columns are made of.
ColumnInput ColumnsOf(const UpdateSet& set, const Points& points,
                      const std::vector<size_t>& kept) {
  ColumnInput input{RowsOf(set), points.Mixing()};
  if (kept.empty()) return input;
  auto pick = [&](auto* from) {
    for (size_t k = 0; k < kept.size(); ++k) {
      std::swap((*from)[k], (*from)[kept[k]]);  // ascending: k <= kept[k]
    }
    from->resize(kept.size());
  };
  if (input.mixing.empty()) {
    pick(&input.rows);
  } else {
    pick(&input.mixing);
  }
  return input;
}

// Fills the report's decisions, of which each is known of points, as those of
// the updates that the points stand for.
class Reporter {
 public:
  Reporter(const TracedPoints& traced, v1::AggregationReport* report)
      : traced_(traced), report_(report) {}

  void Scores(const std::vector<double>& scores) {
    for (size_t i = 0; i < scores.size(); ++i) {
      ForEach(i, [&](v1::UpdateDecision* d) { d->set_score(scores[i]); });
    }
  }

  void Selected(const std::vector<size_t>& selected) {
    for (v1::UpdateDecision& decision : *report_->mutable_updates()) {
      decision.set_selected(false);
    }
    for (size_t i : selected) {
      ForEach(i, [](v1::UpdateDecision* d) { d->set_selected(true); });
    }
  }

  // Of pre-aggregations, and the rule's own on top of them.
  void ClipFactors(const std::vector<double>& factors) {
    for (size_t i = 0; i < traced_.clip_factors.size(); ++i) {
      Decision(i)->set_clip_factor(traced_.clip_factors[i]);
    }
    for (size_t i = 0; i < factors.size(); ++i) {
      ForEach(i, [&](v1::UpdateDecision* d) {
        d->set_clip_factor(factors[i] *
                           (d->has_clip_factor() ? d->clip_factor() : 1));
      });
    }
  }

  // rows: the points that the shares are of; empty: all.
  void OutsideShares(const struct OutsideShares& outside,
                     const std::vector<size_t>& rows) {
    report_->set_sampled_coordinates(outside.coordinates);
    for (size_t k = 0; k < outside.shares.size(); ++k) {
      ForEach(rows.empty() ? k : rows[k], [&](v1::UpdateDecision* d) {
        d->set_outside_share(outside.shares[k]);
      });
    }
  }

  void Dropped() {
    for (size_t i = 0; i < traced_.dropped.size(); ++i) {
      if (!traced_.dropped[i].empty()) {
        Decision(i)->set_dropped(traced_.dropped[i]);
      }
    }
  }

 private:
  v1::UpdateDecision* Decision(size_t update) {
    return report_->mutable_updates(static_cast<int>(update));
  }
  template <typename Set>
  void ForEach(size_t point, Set set) {
    for (size_t update : traced_.members[point]) set(Decision(update));
  }

  const TracedPoints& traced_;
  v1::AggregationReport* const report_;
};

class Pipeline final : public Aggregator {
 public:
  Pipeline(std::vector<PreAggregation> steps, std::unique_ptr<Rule> rule,
           double max_weight, InstructionSet instruction_set)
      : steps_(std::move(steps)),
        rule_(std::move(rule)),
        max_weight_(max_weight),
        instruction_set_(instruction_set) {
    needs_distances_ =
        rule_->NeedsDistances() ||
        std::any_of(steps_.begin(), steps_.end(),
                    [](const auto& step) { return step.NeedsDistances(); });
  }

  // False if no number of updates is enough.
  bool FindMinUpdates() {
    for (size_t n = 1; n <= kMostUpdates; ++n) {
      if (!CheckSteps(n).ok()) continue;
      min_updates_ = n;
      return true;
    }
    return false;
  }

  absl::Status Validate(const UpdateSet& set) const override {
    if (!set.layout().AllF32()) {
      return absl::FailedPreconditionError(
          absl::StrCat(rule_->name(), " needs a model of F32 tensors only"));
    }
    ABSL_RETURN_IF_ERROR(CheckCount(set.size()));
    return CheckRows(set.size(), IsDiscounted(set));
  }

  absl::Status CheckCount(size_t updates) const override {
    if (updates == 0) {
      return absl::FailedPreconditionError(
          absl::StrCat(rule_->name(), " needs at least ", min_updates_,
                       " update", min_updates_ == 1 ? "" : "s", ", got 0"));
    }
    ABSL_RETURN_IF_ERROR(CheckRows(updates, /*discounted=*/false));
    return CheckSteps(updates);
  }

  size_t MinUpdates() const override { return min_updates_; }
  bool KeepsAggregate() const override { return rule_->KeepsAggregate(); }
  bool UsesWeights() const override { return rule_->UsesWeights(); }

  absl::StatusOr<v1::AggregationReport> Aggregate(
      const UpdateSet& set, const AggregationContext& context,
      UpdateSink* out) const override {
    ABSL_RETURN_IF_ERROR(Validate(set));
    v1::AggregationReport report = StartReport(set);
    ABSL_ASSIGN_OR_RETURN(TracedPoints traced,
                          MakePoints(set, context, &report));
    ABSL_RETURN_IF_ERROR(ApplySteps(context.seed, &traced));
    ABSL_RETURN_IF_ERROR(rule_->Check(set.size(), traced.points.size()));
    const Decision decision = rule_->Decide(traced.points);
    if (decision.columns.has_value()) {
      ABSL_RETURN_IF_ERROR(
          Reduce(set, context, traced, decision, out, &report));
    } else {
      ABSL_RETURN_IF_ERROR(
          Combine(set, context, traced.points, decision, out, &report));
    }
    FinishReport(traced, decision, &report);
    return report;
  }

  // Some rows are held, or compared, all at once.
  absl::Status CheckRows(size_t n, bool discounted) const {
    const bool mixes =
        rule_->ReducesColumns() && (!steps_.empty() || discounted);
    if (n <= kMostComparedUpdates || !(needs_distances_ || mixes)) {
      return absl::OkStatus();
    }
    return absl::FailedPreconditionError(
        absl::StrCat(rule_->name(), needs_distances_ ? " compares" : " mixes",
                     " at most ", kMostComparedUpdates, " updates, got ", n));
  }

 private:
  // Of the most points that n updates can become.
  absl::Status CheckSteps(size_t n) const {
    size_t m = n;
    for (const PreAggregation& step : steps_) {
      ABSL_RETURN_IF_ERROR(step.Check(n, m));
      m = step.PointsAfter(m);
    }
    return rule_->Check(n, m);
  }

  v1::AggregationReport StartReport(const UpdateSet& set) const {
    v1::AggregationReport report;
    report.set_rule(std::string(rule_->name()));
    for (const PreAggregation& step : steps_) {
      report.add_pre_aggregation(std::string(step.name()));
    }
    const std::optional<int64_t> f = rule_->AttackersAsked(set.size());
    if (f.has_value()) report.set_f(*f);
    report.set_instruction_set(
        std::string(InstructionSetName(instruction_set_)));
    for (size_t i = 0; i < set.size(); ++i) {
      v1::UpdateDecision* const decision = report.add_updates();
      decision->set_worker(set.worker(i));
      if (set.max_staleness() > 0) {
        decision->set_staleness(set.staleness(i));
        decision->set_discount(set.discount(i));
      }
    }
    return report;
  }

  absl::StatusOr<TracedPoints> MakePoints(const UpdateSet& set,
                                          const AggregationContext& context,
                                          v1::AggregationReport* report) const {
    if (!needs_distances_)
      return TracedPoints(PointsOf(set, max_weight_, nullptr));
    ABSL_ASSIGN_OR_RETURN(
        const Gram gram,
        ComputeGram(set.layout(), RowsOf(set),
                    rule_->KeepsAggregate() ? context.previous : nullptr,
                    instruction_set_, context.pool));
    for (size_t i = 0; i < set.size(); ++i) {
      report->mutable_updates(static_cast<int>(i))
          ->set_norm(std::sqrt(gram.SquaredDistance(i, gram.origin())));
    }
    return TracedPoints(PointsOf(set, max_weight_, &gram));
  }

  // Each step draws from a stream of its own.
  absl::Status ApplySteps(uint64_t seed, TracedPoints* traced) const {
    for (size_t k = 0; k < steps_.size(); ++k) {
      const uint64_t stream =
          DeriveSeed(seed, absl::StrCat("pre_aggregation/", k));
      ABSL_RETURN_IF_ERROR(steps_[k].Apply(stream, traced));
    }
    return absl::OkStatus();
  }

  absl::Status Combine(const UpdateSet& set, const AggregationContext& context,
                       const Points& points, const Decision& decision,
                       UpdateSink* out, v1::AggregationReport* report) const {
    ExactWeights exact = CombinationOf(points, decision);
    Rows rows = RowsOf(set);
    if (exact.weights.back() != 0) {
      rows.push_back({context.previous, nullptr});
    } else {
      exact.weights.pop_back();
    }
    ABSL_RETURN_IF_ERROR(CombineRows(set.layout(), rows, exact,
                                     instruction_set_, context.pool, out));
    const std::vector<double> coefficients = exact.Normalised();
    for (size_t i = 0; i < set.size(); ++i) {
      report->mutable_updates(static_cast<int>(i))
          ->set_coefficient(coefficients[i]);
    }
    return absl::OkStatus();
  }

  absl::Status Reduce(const UpdateSet& set, const AggregationContext& context,
                      const TracedPoints& traced, const Decision& decision,
                      UpdateSink* out, v1::AggregationReport* report) const {
    OutsideShares outside;
    ABSL_RETURN_IF_ERROR(ReduceColumns(
        set.layout(), ColumnsOf(set, traced.points, decision.rows),
        *decision.columns, instruction_set_, context.pool, out, &outside));
    Reporter(traced, report).OutsideShares(outside, decision.rows);
    return absl::OkStatus();
  }

  void FinishReport(const TracedPoints& traced, const Decision& decision,
                    v1::AggregationReport* report) const {
    report->set_total_weight(decision.total_weight);
    if (decision.iterations) report->set_iterations(*decision.iterations);
    if (decision.converged) report->set_converged(*decision.converged);
    if (decision.trimmed_per_side) {
      report->set_trimmed_per_side(*decision.trimmed_per_side);
    }
    Reporter reporter(traced, report);
    reporter.Scores(decision.scores);
    if (decision.selects) reporter.Selected(decision.selected);
    reporter.ClipFactors(decision.factors);
    reporter.Dropped();
  }

  const std::vector<PreAggregation> steps_;
  const std::unique_ptr<Rule> rule_;
  const double max_weight_;
  const InstructionSet instruction_set_;  // resolved
  bool needs_distances_ = false;
  size_t min_updates_ = 1;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Aggregator>> MakePipeline(
    std::vector<PreAggregation> steps, std::unique_ptr<Rule> rule,
    double max_weight, InstructionSet instruction_set) {
  ABSL_ASSIGN_OR_RETURN(const InstructionSet resolved,
                        ResolveInstructionSet(instruction_set));
  const std::string name(rule->name());
  auto pipeline = std::make_unique<Pipeline>(std::move(steps), std::move(rule),
                                             max_weight, resolved);
  if (!pipeline->FindMinUpdates()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "aggregation: ", name,
        " with these options and pre-aggregations needs more than ",
        kMostUpdates,
        " updates: lower f, m or a bucketing's size, or raise beta"));
  }
  return pipeline;
}

}  // namespace koinon::aggregation
