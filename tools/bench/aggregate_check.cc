#include "tools/bench/aggregate_check.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"

namespace koinon::tools {
namespace {

using Real = long double;
using Vector = std::vector<Real>;
using Matrix = std::vector<Vector>;

// Half a unit in the last place for values in [-1, 1], and as much again for
// weights that are rounded to 29 bits and for sums in double or fixed point.
constexpr double kTolerance = 0x1p-23;
// A Gram matrix in fp32 blocks is good to 1e-5; Weiszfeld's weights are a
// smooth function of the distances.
constexpr double kCoefficientTolerance = 1e-4;

Vector Column(const AggregateAnswer& answer, size_t j) {
  Vector column(answer.n);
  for (size_t i = 0; i < answer.n; ++i) column[i] = answer.value(i, j);
  return column;
}

Real WeightedMean(const Vector& column, const Vector& weights) {
  Real sum = 0, total = 0;
  for (size_t i = 0; i < column.size(); ++i) {
    sum += weights[i] * column[i];
    total += weights[i];
  }
  return sum / total;
}

Real MeanOf(Vector sorted, size_t begin, size_t end) {
  return std::accumulate(sorted.begin() + begin, sorted.begin() + end,
                         Real{0}) /
         static_cast<Real>(end - begin);
}

Real MedianOf(Vector column) {
  std::sort(column.begin(), column.end());
  const size_t n = column.size();
  return MeanOf(column, (n - 1) / 2, n / 2 + 1);
}

Real TrimmedMean(Vector column, size_t trim) {
  std::sort(column.begin(), column.end());
  return MeanOf(column, trim, column.size() - trim);
}

// Of the `keep` values nearest to the median, the smaller of equally near ones
// first.
Real MeanAround(Vector column, size_t keep) {
  const Real median = MedianOf(column);
  std::sort(column.begin(), column.end());
  std::stable_sort(column.begin(), column.end(), [&](Real a, Real b) {
    return std::fabs(a - median) < std::fabs(b - median);
  });
  return MeanOf(column, 0, keep);
}

Matrix SquaredDistances(const AggregateAnswer& answer) {
  Matrix distances(answer.n, Vector(answer.n));
  for (size_t j = 0; j < answer.P; ++j) {
    const Vector column = Column(answer, j);
    for (size_t i = 0; i < answer.n; ++i) {
      for (size_t k = 0; k < i; ++k) {
        const Real difference = column[i] - column[k];
        distances[i][k] += difference * difference;
      }
    }
  }
  for (size_t i = 0; i < answer.n; ++i) {
    for (size_t k = 0; k < i; ++k) distances[k][i] = distances[i][k];
  }
  return distances;
}

Real KrumScore(const Matrix& distances, const std::vector<size_t>& among,
               size_t i, size_t neighbours) {
  Vector others;
  for (const size_t k : among) {
    if (k != i) others.push_back(distances[i][k]);
  }
  std::sort(others.begin(), others.end());
  others.resize(std::min(others.size(), neighbours));
  return std::accumulate(others.begin(), others.end(), Real{0});
}

// `among`, the best first.
std::vector<size_t> ByKrum(const Matrix& distances, std::vector<size_t> among,
                           size_t neighbours) {
  Vector scores(distances.size());
  for (const size_t i : among) {
    scores[i] = KrumScore(distances, among, i, neighbours);
  }
  std::stable_sort(among.begin(), among.end(),
                   [&](size_t a, size_t b) { return scores[a] < scores[b]; });
  return among;
}

std::vector<size_t> All(size_t n) {
  std::vector<size_t> all(n);
  std::iota(all.begin(), all.end(), size_t{0});
  return all;
}

// The updates that a Gram rule keeps, ascending.
std::vector<size_t> PlainChoice(const BenchRule& rule,
                                const Matrix& distances) {
  const size_t n = distances.size();
  std::vector<size_t> chosen;
  if (rule.family == BenchRule::kGram) {
    chosen = ByKrum(distances, All(n), n - rule.f - 2);
    chosen.resize(rule.keep);
  } else {
    std::vector<size_t> left = All(n);
    while (chosen.size() < n - 2 * rule.f) {
      const size_t neighbours =
          left.size() > rule.f + 2 ? left.size() - rule.f - 2 : 1;
      const size_t best = ByKrum(distances, left, neighbours)[0];
      chosen.push_back(best);
      left.erase(std::find(left.begin(), left.end(), best));
    }
  }
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

// Weights of the smoothed Weiszfeld iteration from the mean, in the space of
// coefficients: |z - x_i|^2 = sum a_k D_ik - 1/2 sum a_k a_l D_kl.
Vector PlainWeiszfeld(const BenchRule& rule, const Matrix& distances) {
  constexpr Real kSmoothing = 1e-5L;
  const size_t n = distances.size();
  Vector a(n, Real{1} / static_cast<Real>(n));
  for (int iteration = 0; iteration < rule.iterations; ++iteration) {
    Vector to(n);
    Real spread = 0;
    for (size_t i = 0; i < n; ++i) {
      for (size_t k = 0; k < n; ++k) to[i] += a[k] * distances[i][k];
      spread += a[i] * to[i] / 2;
    }
    Real total = 0;
    for (size_t i = 0; i < n; ++i) {
      a[i] = 1 /
             std::max(kSmoothing, std::sqrt(std::max(Real{0}, to[i] - spread)));
      total += a[i];
    }
    for (Real& share : a) share /= total;
  }
  return a;
}

Vector Coefficients(const v1::AggregationReport& report) {
  Vector coefficients;
  for (const auto& update : report.updates()) {
    coefficients.push_back(update.coefficient());
  }
  return coefficients;
}

std::vector<size_t> Selected(const v1::AggregationReport& report) {
  std::vector<size_t> selected;
  for (int i = 0; i < report.updates_size(); ++i) {
    if (report.updates(i).selected()) {
      selected.push_back(static_cast<size_t>(i));
    }
  }
  return selected;
}

absl::Status CheckChoice(const BenchRule& rule, const AggregateAnswer& answer) {
  const Matrix distances = SquaredDistances(answer);
  if (rule.iterations == 0) {
    if (Selected(*answer.report) == PlainChoice(rule, distances)) {
      return absl::OkStatus();
    }
    return absl::InternalError(absl::StrCat(
        rule.name, " selects other updates than a plain computation does"));
  }
  const Vector expected = PlainWeiszfeld(rule, distances);
  const Vector found = Coefficients(*answer.report);
  for (size_t i = 0; i < answer.n; ++i) {
    if (!(std::fabs(found[i] - expected[i]) <=
          kCoefficientTolerance / static_cast<Real>(answer.n))) {
      return absl::InternalError(
          absl::StrFormat("%s: coefficient %d is %.9g, expected %.9g",
                          rule.name, i, found[i], expected[i]));
    }
  }
  return absl::OkStatus();
}

Real Expected(const BenchRule& rule, const AggregateAnswer& answer,
              const Vector& weights, size_t j) {
  Vector column = Column(answer, j);
  switch (rule.family) {
    case BenchRule::kMean:
    case BenchRule::kGram:
      return WeightedMean(column, weights);
    case BenchRule::kColumns:
      return rule.spec.has_median() ? MedianOf(std::move(column))
                                    : TrimmedMean(std::move(column), rule.trim);
    case BenchRule::kBoth:
      break;
  }
  Vector kept;
  for (const size_t i : Selected(*answer.report)) kept.push_back(column[i]);
  return MeanAround(std::move(kept), answer.n - 4 * rule.f);
}

}  // namespace

absl::StatusOr<double> CheckAggregate(const BenchRule& rule,
                                      const AggregateAnswer& answer) {
  if (static_cast<size_t>(answer.report->updates_size()) != answer.n) {
    return absl::InternalError(absl::StrCat(rule.name, " reports on ",
                                            answer.report->updates_size(),
                                            " updates, expected ", answer.n));
  }
  const double differences = static_cast<double>(answer.n) *
                             static_cast<double>(answer.n) *
                             static_cast<double>(answer.P) / 2;
  if (rule.gram() && answer.choices && differences <= kMostDifferences) {
    ABSL_RETURN_IF_ERROR(CheckChoice(rule, answer));
  }
  const Vector weights =
      rule.family == BenchRule::kGram
          ? Coefficients(*answer.report)
          : Vector(answer.weights.begin(), answer.weights.end());
  const size_t step = std::max<size_t>(1, answer.P / kCheckedCoordinates);
  double largest = 0;
  for (size_t j = 0; j < answer.P; j += step) {
    const auto expected =
        static_cast<double>(Expected(rule, answer, weights, j));
    const double error = std::fabs(answer.result(j) - expected);
    if (!(error <= kTolerance)) {
      return absl::InternalError(
          absl::StrFormat("%s: element %d is %.9g, expected %.9g", rule.name, j,
                          answer.result(j), expected));
    }
    largest = std::max(largest, error);
  }
  return largest;
}

}  // namespace koinon::tools
