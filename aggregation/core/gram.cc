#include "aggregation/core/gram.h"

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "aggregation/core/gram_pass.h"
#include "base/check.h"
#include "base/status_macros.h"

namespace koinon::aggregation {
namespace {

// A centre is far if the median of its squared distances is so many times that
// of the medoid's.
constexpr double kFar = 8;
// The sample's, the origin, and the best of those that the origin tells apart.
constexpr int kMaxCentres = 3;
// Squared distances that are a smaller part of those to the centre may be
// nothing but what the centre blurs.
constexpr double kBlurred = 1.0 / 1024;
// Two points are close if their squared distance is less than this part of the
// sum of their squared distances to the centre. Of that sum, the products of a
// pair are off by 64 roundings and a few more at the very most, all in one
// direction: 2^-18, of which the distance has to bear eight times as much.
constexpr double kClose = 1.0 / 8;
// A pass for every level of points that are close among those that are close.
constexpr int kMaxDepth = 4;

struct Medoid {
  size_t point = 0;
  double median = 0;  // of its squared distances
};

double MedianDistance(const CentredProducts& products, size_t i,
                      std::vector<double>* scratch) {
  scratch->resize(products.points);
  for (size_t k = 0; k < products.points; ++k) {
    (*scratch)[k] = products.SquaredDistance(i, k);
  }
  const auto middle = scratch->begin() + products.points / 2;
  std::nth_element(scratch->begin(), middle, scratch->end());
  return *middle;
}

// The point whose median distance to all points is smallest: as near to most of
// them as a point can be, wherever less than half of them are.
Medoid FindMedoid(const CentredProducts& products) {
  std::vector<double> scratch;
  Medoid medoid = {0, MedianDistance(products, 0, &scratch)};
  for (size_t i = 1; i < products.points; ++i) {
    const double median = MedianDistance(products, i, &scratch);
    if (median < medoid.median) medoid = {i, median};
  }
  return medoid;
}

// The centre to try after one that is far from most points; the same if it is
// not.
//
// Attackers may see to it that the sample takes one of them for the centre, so
// far away that all others look alike. Then the medoid is anybody: another
// attacker, nearer but still far, and so on. Around the origin, no point's
// length blurs the distances of others.
size_t BetterCentre(const CentredProducts& products,
                    absl::Span<const Row> points) {
  const Medoid medoid = FindMedoid(products);
  std::vector<double> scratch;
  const double median = MedianDistance(products, products.centre, &scratch);
  if (median <= kFar * medoid.median) return products.centre;
  if (medoid.median > kBlurred * median) return medoid.point;
  const auto origin =
      std::find_if(points.begin(), points.end(),
                   [](const Row& point) { return point.values == nullptr; });
  const auto index = static_cast<size_t>(origin - points.begin());
  return origin == points.end() || index == products.centre ? medoid.point
                                                            : index;
}

bool AreClose(const CentredProducts& products, size_t i, size_t k) {
  const double own_i = products.At(i, i);
  const double own_k = products.At(k, k);
  // Equal points, which cannot come any closer.
  if (own_i == own_k && own_i == products.At(i, k)) return false;
  return products.SquaredDistance(i, k) < kClose * (own_i + own_k);
}

// Sets of at least two points that are linked by close pairs, ascending.
std::vector<std::vector<size_t>> CloseSets(const CentredProducts& products) {
  std::vector<size_t> parent(products.points);
  std::iota(parent.begin(), parent.end(), 0);
  const auto root = [&](size_t i) {
    while (parent[i] != i) i = parent[i] = parent[parent[i]];
    return i;
  };
  for (size_t i = 0; i < products.points; ++i) {
    for (size_t k = 0; k < i; ++k) {
      if (AreClose(products, i, k)) {
        const size_t a = root(i), b = root(k);
        parent[std::max(a, b)] = std::min(a, b);
      }
    }
  }
  std::vector<std::vector<size_t>> sets(products.points);
  for (size_t i = 0; i < products.points; ++i) sets[root(i)].push_back(i);
  std::erase_if(sets, [](const auto& set) { return set.size() < 2; });
  return sets;
}

// Products around a good centre, from which close pairs have been looked at
// again by themselves.
absl::StatusOr<CentredProducts> ComputeProducts(const GramOptions& options,
                                                absl::Span<const Row> points,
                                                int depth) {
  ABSL_ASSIGN_OR_RETURN(
      const CentredProducts sample,
      SampleCentredProducts(options, points, points.size() / 2));
  size_t centre = FindMedoid(sample).point;
  CentredProducts products;
  for (int centres = 1;; ++centres) {
    ABSL_ASSIGN_OR_RETURN(products,
                          ComputeCentredProducts(options, points, centre));
    const size_t better = BetterCentre(products, points);
    if (centres == kMaxCentres || better == centre) break;
    centre = better;
  }
  if (depth == kMaxDepth) return products;
  for (const std::vector<size_t>& set : CloseSets(products)) {
    Rows members;
    for (size_t i : set) members.push_back(points[i]);
    ABSL_ASSIGN_OR_RETURN(const CentredProducts close,
                          ComputeProducts(options, members, depth + 1));
    for (size_t i = 0; i < set.size(); ++i) {
      for (size_t k = 0; k < i; ++k) {
        products.Set(
            set[i], set[k],
            (products.At(set[i], set[i]) + products.At(set[k], set[k]) -
             close.SquaredDistance(i, k)) /
                2);
      }
    }
  }
  return products;
}

}  // namespace

absl::StatusOr<Gram> ComputeGram(const ModelLayout& layout,
                                 absl::Span<const Row> updates,
                                 const UpdateSource* previous,
                                 InstructionSet instruction_set,
                                 ThreadPool* pool) {
  KOINON_CHECK(!updates.empty());
  ABSL_ASSIGN_OR_RETURN(instruction_set,
                        ResolveInstructionSet(instruction_set));
  Rows points(updates.begin(), updates.end());
  points.push_back({nullptr, nullptr});  // the origin
  if (previous != nullptr) points.push_back({previous, nullptr});
  const GramOptions options = {layout, instruction_set, pool};
  ABSL_ASSIGN_OR_RETURN(CentredProducts products,
                        ComputeProducts(options, points, 0));
  Gram gram;
  gram.n = updates.size();
  gram.has_previous = previous != nullptr;
  gram.products = std::move(products.values);
  return gram;
}

}  // namespace koinon::aggregation
