#ifndef KOINON_AGGREGATION_RULES_RULE_H_
#define KOINON_AGGREGATION_RULES_RULE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "aggregation/core/columns.h"
#include "aggregation/geometry/points.h"

namespace koinon::aggregation {

// What a rule makes of m points: either a linear combination of them, or a
// reduction of their columns. Vectors of the report are empty where the rule
// has nothing to say.
struct Decision {
  // Vector rules. What the coefficients lack of 1 is the origin's, unless
  // `mean`: then they are divided by their sum.
  std::vector<double> coefficients;  // [m], finite, >= 0
  bool mean = false;
  double previous = 0;  // of the previous aggregate, >= 0

  // Coordinate rules: of the columns of `rows`, ascending; empty: of all
  // points.
  std::optional<ColumnRule> columns;
  std::vector<size_t> rows;
  std::optional<int64_t> trimmed_per_side;

  // For the report.
  double total_weight = 0;
  std::vector<double> scores;    // [m]
  std::vector<double> factors;   // [m]
  std::vector<size_t> selected;  // ascending
  bool selects = false;          // `selected` means something
  std::optional<int64_t> iterations;
  std::optional<bool> converged;
};

// The last step of an aggregation, as a pure function of points: the pipeline
// around it (rules/pipeline.h) reads the updates and writes the result.
// Immutable, thread-safe.
class Rule {
 public:
  virtual ~Rule() = default;

  virtual absl::string_view name() const = 0;  // "multi_krum"
  // FAILED_PRECONDITION unless the rule can be applied to m points made of n
  // updates; says what it needs and what it got. m >= 1.
  virtual absl::Status Check(size_t n, size_t m) const = 0;
  virtual bool NeedsDistances() const = 0;
  // Whether example counts matter.
  virtual bool UsesWeights() const { return false; }
  virtual bool KeepsAggregate() const { return false; }
  // Whether Decide gives columns.
  virtual bool ReducesColumns() const { return false; }
  // That was asked for, of n updates received.
  virtual std::optional<int64_t> AttackersAsked(size_t) const {
    return std::nullopt;
  }

  // Requires Check, and distances if the rule needs them.
  virtual Decision Decide(const Points& points) const = 0;
};

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_RULES_RULE_H_
