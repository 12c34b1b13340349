#ifndef KOINON_AGGREGATION_GEOMETRY_POINTS_H_
#define KOINON_AGGREGATION_GEOMETRY_POINTS_H_

#include <cstddef>
#include <vector>

#include "absl/types/span.h"
#include "aggregation/core/gram.h"

namespace koinon::aggregation {

// The points that a rule sees: at first the updates, after pre-aggregation
// linear combinations of them. Their distances follow from the Gram matrix, so
// that no step of a rule touches the parameters. A value.
class Points {
 public:
  // The updates of `gram`, each scaled by its discount. weights, discounts:
  // [n]; weights finite, > 0; discounts in (0, 1].
  Points(Gram gram, absl::Span<const double> weights,
         absl::Span<const double> discounts);

  size_t size() const { return weights_.size(); }  // m
  size_t updates() const { return updates_; }      // n
  double weight(size_t i) const { return weights_[i]; }
  double SquaredDistance(size_t i, size_t j) const {
    return gram_.SquaredDistance(i, j);
  }
  double SquaredNorm(size_t i) const {
    return gram_.SquaredDistance(i, gram_.origin());
  }
  // Dot product of points i and j as vectors (from the origin).
  double Dot(size_t i, size_t j) const;
  // Point i as a linear combination of the updates. [n]
  std::vector<double> Coefficients(size_t i) const;
  // Of all points, for ColumnInput: empty if they are the updates themselves.
  std::vector<std::vector<double>> Mixing() const;
  // Of the centre c = sum of coefficients[i] p_i + previous * v + the rest of
  // the origin: the squared distance from point i. coefficients: [m].
  double SquaredDistanceTo(size_t i, absl::Span<const double> coefficients,
                           double previous) const;
  const Gram& gram() const { return gram_; }

  // New points: row i of `mixing` ([k][m]) over the present ones, what its sum
  // lacks of 1 being the origin's; with these weights ([k]).
  void Mix(const std::vector<std::vector<double>>& mixing,
           std::vector<double> weights);
  // Shorter and faster: each point by a factor in [0, 1]. factors: [m].
  void Scale(absl::Span<const double> factors);
  // Only these points, ascending.
  void Keep(const std::vector<size_t>& kept);

 private:
  size_t updates_ = 0;
  Gram gram_;  // of the points
  std::vector<double> weights_;
  std::vector<std::vector<double>> coefficients_;  // [m][n]; empty: identity
};

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_GEOMETRY_POINTS_H_
