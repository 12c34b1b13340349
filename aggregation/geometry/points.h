#ifndef KOINON_AGGREGATION_GEOMETRY_POINTS_H_
#define KOINON_AGGREGATION_GEOMETRY_POINTS_H_

#include <cstddef>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "aggregation/core/gram.h"

namespace koinon::aggregation {

// The points that a rule sees: at first the updates, after pre-aggregation
// linear combinations of them. Their distances follow from the Gram matrix, so
// that no step of a rule touches the parameters. A value.
class Points {
 public:
  // A linear combination: the terms that are not zero, by ascending index.
  using Terms = std::vector<std::pair<size_t, double>>;

  // The updates of `gram`, each scaled by its discount. weights, discounts:
  // [n]; weights finite, > 0; discounts in (0, 1].
  Points(Gram gram, absl::Span<const double> weights,
         absl::Span<const double> discounts);
  // As above, for steps and rules that ask for no distance.
  Points(absl::Span<const double> weights, absl::Span<const double> discounts);

  size_t size() const { return weights_.size(); }  // m
  size_t updates() const { return updates_; }      // n
  double weight(size_t i) const { return weights_[i]; }
  absl::Span<const double> weights() const { return weights_; }
  // Whether point i is update i, for all i.
  bool AreUpdates() const { return identity_; }

  bool has_distances() const { return !gram_.products.empty(); }
  // These require has_distances().
  double SquaredDistance(size_t i, size_t j) const {
    return gram_.SquaredDistance(i, j);
  }
  double SquaredNorm(size_t i) const {
    return gram_.SquaredDistance(i, gram_.origin());
  }
  // Dot product of points i and j as vectors (from the origin).
  double Dot(size_t i, size_t j) const;
  // Of the points, the origin and the previous aggregate, in Gram's order.
  const Gram& gram() const { return gram_; }

  // Point i as a linear combination of the updates.
  Terms Coefficients(size_t i) const;
  // Of the updates in sum of coefficients[i] p_i. coefficients: [m]; [n].
  std::vector<double> OverUpdates(absl::Span<const double> coefficients) const;
  // Of all points, for ColumnInput: empty if they are the updates themselves.
  std::vector<std::vector<double>> Mixing() const;

  // New points: row i of `mixing` over the present ones, what its sum lacks of
  // 1 being the origin's; with these weights. mixing, weights: [k].
  void Mix(const std::vector<Terms>& mixing, std::vector<double> weights);
  // Shorter and no longer: each point by a factor in [0, 1]. factors: [m].
  void Scale(absl::Span<const double> factors);
  // Only these points, ascending.
  void Keep(absl::Span<const size_t> kept);

 private:
  size_t updates_ = 0;
  Gram gram_;  // of the points; empty: no distances
  std::vector<double> weights_;
  bool identity_ = true;
  std::vector<Terms> coefficients_;  // [m] over the updates; unless identity_
};

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_GEOMETRY_POINTS_H_
