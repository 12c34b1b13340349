#include "aggregation/geometry/krum.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "base/check.h"

namespace koinon::aggregation {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Neighbour {
  double distance;  // squared
  size_t index;
};

// The other points, nearest first.
std::vector<Neighbour> NeighboursOf(const Points& points, size_t i) {
  std::vector<Neighbour> neighbours;
  neighbours.reserve(points.size() - 1);
  for (size_t j = 0; j < points.size(); ++j) {
    if (j == i) continue;
    const double distance = points.SquaredDistance(i, j);
    neighbours.push_back({std::isnan(distance) ? kInfinity : distance, j});
  }
  std::sort(neighbours.begin(), neighbours.end(),
            [](const Neighbour& a, const Neighbour& b) {
              return std::pair(a.distance, a.index) <
                     std::pair(b.distance, b.index);
            });
  return neighbours;
}

double SumOfNearest(const std::vector<Neighbour>& sorted, size_t count) {
  double sum = 0;
  for (size_t k = 0; k < std::min(count, sorted.size()); ++k) {
    sum += sorted[k].distance;
  }
  return sum;
}

void Remove(size_t index, std::vector<Neighbour>* sorted) {
  const auto found =
      std::find_if(sorted->begin(), sorted->end(),
                   [&](const Neighbour& n) { return n.index == index; });
  sorted->erase(found);
}

}  // namespace

std::vector<double> KrumScores(const Points& points, size_t neighbours) {
  std::vector<double> scores;
  for (size_t i = 0; i < points.size(); ++i) {
    scores.push_back(SumOfNearest(NeighboursOf(points, i), neighbours));
  }
  return scores;
}

std::vector<size_t> LowestScores(absl::Span<const double> scores,
                                 size_t count) {
  KOINON_CHECK(count <= scores.size());
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto key = [&](size_t i) {
    return std::pair(std::isnan(scores[i]),
                     std::isnan(scores[i]) ? 0 : scores[i]);
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return key(a) < key(b); });
  order.resize(count);
  std::sort(order.begin(), order.end());
  return order;
}

std::vector<size_t> RecursiveKrum(const Points& points, size_t f,
                                  size_t count) {
  KOINON_CHECK(count <= points.size());
  std::vector<size_t> remaining(points.size());
  std::iota(remaining.begin(), remaining.end(), size_t{0});
  // Distances are sorted once; a choice deletes one entry of each list.
  std::vector<std::vector<Neighbour>> sorted;
  for (size_t i : remaining) sorted.push_back(NeighboursOf(points, i));
  std::vector<size_t> chosen;
  while (chosen.size() < count) {
    const size_t left = remaining.size();
    const size_t neighbours = left > f + 3 ? left - f - 2 : 1;
    double best = kInfinity;
    size_t winner = remaining[0];
    for (size_t i : remaining) {
      const double score = SumOfNearest(sorted[i], neighbours);
      if (score < best) {
        best = score;
        winner = i;
      }
    }
    chosen.push_back(winner);
    remaining.erase(std::find(remaining.begin(), remaining.end(), winner));
    for (size_t i : remaining) Remove(winner, &sorted[i]);
  }
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

}  // namespace koinon::aggregation
