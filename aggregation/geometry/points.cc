#include "aggregation/geometry/points.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace koinon::aggregation {
namespace {

// A sum of coefficients this close to 1 is one that was rounded.
constexpr double kRounding = 1e-12;

// into[j] += factor * from[j]
void AddScaled(double factor, const double* from, size_t count, double* into) {
  for (size_t j = 0; j < count; ++j) into[j] += factor * from[j];
}

std::vector<double> Transposed(const std::vector<double>& matrix, size_t rows,
                               size_t columns) {
  std::vector<double> transposed(matrix.size());
  for (size_t i = 0; i < rows; ++i) {
    for (size_t j = 0; j < columns; ++j) {
      transposed[j * rows + i] = matrix[i * columns + j];
    }
  }
  return transposed;
}

// mixing [k] x matrix [..][columns] -> [k][columns]. Equal rows of `mixing`
// give equal bits.
std::vector<double> Product(const std::vector<Points::Terms>& mixing,
                            const std::vector<double>& matrix, size_t columns) {
  std::vector<double> product(mixing.size() * columns);
  for (size_t i = 0; i < mixing.size(); ++i) {
    for (const auto& [j, factor] : mixing[i]) {
      AddScaled(factor, &matrix[j * columns], columns, &product[i * columns]);
    }
  }
  return product;
}

// What each row lacks of 1 as a term of the origin, then the origin and the
// previous aggregate themselves.
std::vector<Points::Terms> WithState(std::vector<Points::Terms> mixing,
                                     const Gram& gram) {
  for (Points::Terms& terms : mixing) {
    double rest = 1;
    for (const auto& term : terms) rest -= term.second;
    if (std::fabs(rest) > kRounding) terms.emplace_back(gram.origin(), rest);
  }
  mixing.push_back({{gram.origin(), 1.0}});
  if (gram.has_previous) mixing.push_back({{gram.previous(), 1.0}});
  return mixing;
}

// The Gram matrix of the mixed points, M G M^T.
Gram Mixed(const Gram& gram, const std::vector<Points::Terms>& mixing) {
  const std::vector<Points::Terms> all = WithState(mixing, gram);
  Gram mixed;
  mixed.n = mixing.size();
  mixed.has_previous = gram.has_previous;
  const size_t points = all.size();
  mixed.products =
      Product(all,
              Transposed(Product(all, gram.products, gram.points()), points,
                         gram.points()),
              points);
  for (size_t i = 0; i < points; ++i) {
    for (size_t j = 0; j < i; ++j) {
      mixed.products[i * points + j] = mixed.products[j * points + i];
    }
  }
  return mixed;
}

// Sum of factors times what they are factors of.
Points::Terms Compose(const Points::Terms& outer,
                      const std::vector<Points::Terms>& inner, size_t n) {
  std::vector<double> sum(n);
  for (const auto& [i, factor] : outer) {
    for (const auto& [j, part] : inner[i]) sum[j] += factor * part;
  }
  Points::Terms terms;
  for (size_t j = 0; j < n; ++j) {
    if (sum[j] != 0) terms.emplace_back(j, sum[j]);
  }
  return terms;
}

}  // namespace

Points::Points(Gram gram, absl::Span<const double> weights,
               absl::Span<const double> discounts)
    : updates_(weights.size()),
      gram_(std::move(gram)),
      weights_(weights.begin(), weights.end()) {
  KOINON_CHECK(gram_.n == updates_);
  Scale(discounts);
}

Points::Points(absl::Span<const double> weights,
               absl::Span<const double> discounts)
    : updates_(weights.size()), weights_(weights.begin(), weights.end()) {
  Scale(discounts);
}

double Points::Dot(size_t i, size_t j) const {
  const size_t o = gram_.origin();
  return gram_.At(i, j) - gram_.At(i, o) - gram_.At(j, o) + gram_.At(o, o);
}

Points::Terms Points::Coefficients(size_t i) const {
  return identity_ ? Terms{{i, 1.0}} : coefficients_[i];
}

std::vector<double> Points::OverUpdates(
    absl::Span<const double> coefficients) const {
  KOINON_CHECK(coefficients.size() == size());
  std::vector<double> sum(updates_);
  for (size_t i = 0; i < size(); ++i) {
    for (const auto& [j, part] : Coefficients(i)) {
      sum[j] += coefficients[i] * part;
    }
  }
  return sum;
}

std::vector<std::vector<double>> Points::Mixing() const {
  if (identity_) return {};
  std::vector<std::vector<double>> mixing(size(),
                                          std::vector<double>(updates_));
  for (size_t i = 0; i < size(); ++i) {
    for (const auto& [j, part] : coefficients_[i]) mixing[i][j] = part;
  }
  return mixing;
}

void Points::Mix(const std::vector<Terms>& mixing,
                 std::vector<double> weights) {
  KOINON_CHECK(mixing.size() == weights.size());
  if (has_distances()) gram_ = Mixed(gram_, mixing);
  if (identity_) {
    coefficients_ = mixing;
  } else {
    std::vector<Terms> composed;
    for (const Terms& terms : mixing) {
      composed.push_back(Compose(terms, coefficients_, updates_));
    }
    coefficients_ = std::move(composed);
  }
  identity_ = false;
  weights_ = std::move(weights);
}

void Points::Scale(absl::Span<const double> factors) {
  KOINON_CHECK(factors.size() == size());
  const auto is_one = [](double factor) { return factor == 1; };
  if (std::all_of(factors.begin(), factors.end(), is_one)) return;
  std::vector<Terms> diagonal(size());
  for (size_t i = 0; i < size(); ++i) {
    if (factors[i] != 0) diagonal[i].emplace_back(i, factors[i]);
  }
  Mix(diagonal, std::move(weights_));
}

void Points::Keep(absl::Span<const size_t> kept) {
  if (kept.size() == size()) return;
  std::vector<Terms> mixing;
  std::vector<double> weights;
  for (size_t i : kept) {
    mixing.push_back({{i, 1.0}});
    weights.push_back(weights_[i]);
  }
  Mix(mixing, std::move(weights));
}

}  // namespace koinon::aggregation
