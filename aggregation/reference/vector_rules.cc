#include "aggregation/reference/vector_rules.h"

#include <algorithm>
#include <cmath>

namespace koinon::aggregation {

double ReferenceDistance(const std::vector<double>& a,
                         const std::vector<double>& b) {
  long double square = 0;
  for (size_t j = 0; j < a.size(); ++j) {
    const long double difference = static_cast<long double>(a[j]) - b[j];
    square += difference * difference;
  }
  return static_cast<double>(std::sqrt(square));
}

std::vector<double> KrumScoresReference(const ReferenceRows& rows,
                                        size_t neighbours) {
  std::vector<double> scores;
  for (size_t i = 0; i < rows.size(); ++i) {
    std::vector<double> squares;
    for (size_t j = 0; j < rows.size(); ++j) {
      if (j == i) continue;
      squares.push_back(std::pow(ReferenceDistance(rows[i], rows[j]), 2));
    }
    std::sort(squares.begin(), squares.end());
    double score = 0;
    for (size_t k = 0; k < neighbours && k < squares.size(); ++k) {
      score += squares[k];
    }
    scores.push_back(score);
  }
  return scores;
}

std::vector<size_t> BulyanSelectionReference(const ReferenceRows& rows,
                                             size_t f) {
  std::vector<size_t> chosen;
  std::vector<size_t> left;
  for (size_t i = 0; i < rows.size(); ++i) left.push_back(i);
  while (chosen.size() < rows.size() - 2 * f) {
    ReferenceRows remaining;
    for (size_t i : left) remaining.push_back(rows[i]);
    const auto n = static_cast<long>(left.size());
    const long neighbours = std::max(1L, n - static_cast<long>(f) - 2);
    const std::vector<double> scores =
        KrumScoresReference(remaining, static_cast<size_t>(neighbours));
    const auto best = std::min_element(scores.begin(), scores.end());
    const auto at = left.begin() + (best - scores.begin());
    chosen.push_back(*at);
    left.erase(at);
  }
  return chosen;
}

double SumOfDistancesReference(const ReferenceRows& rows,
                               const std::vector<double>& weights,
                               const std::vector<double>& z) {
  double sum = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    sum += weights[i] * ReferenceDistance(rows[i], z);
  }
  return sum;
}

std::vector<double> WeiszfeldReference(const ReferenceRows& rows,
                                       const std::vector<double>& weights,
                                       double smoothing, size_t iterations,
                                       bool from_zero) {
  std::vector<double> z(rows[0].size());
  for (size_t step = 0; step <= iterations; ++step) {
    if (step == 0 && from_zero) continue;
    std::vector<double> next(z.size());
    double total = 0;
    for (size_t i = 0; i < rows.size(); ++i) {
      const double distance =
          step == 0 ? 1 : std::max(smoothing, ReferenceDistance(rows[i], z));
      for (size_t j = 0; j < z.size(); ++j) {
        next[j] += weights[i] / distance * rows[i][j];
      }
      total += weights[i] / distance;
    }
    for (double& x : next) x /= total;
    z = next;
  }
  return z;
}

std::vector<double> CenteredClippingReference(const ReferenceRows& rows,
                                              std::vector<double> v, double tau,
                                              size_t iterations) {
  for (size_t step = 0; step < iterations; ++step) {
    std::vector<double> move(v.size());
    for (const auto& row : rows) {
      const double distance = ReferenceDistance(row, v);
      const double factor = distance == 0 ? 1 : std::min(1.0, tau / distance);
      for (size_t j = 0; j < v.size(); ++j) {
        move[j] += (row[j] - v[j]) * factor;
      }
    }
    for (size_t j = 0; j < v.size(); ++j) {
      v[j] += move[j] / static_cast<double>(rows.size());
    }
  }
  return v;
}

}  // namespace koinon::aggregation
