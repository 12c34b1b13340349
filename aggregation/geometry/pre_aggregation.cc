#include "aggregation/geometry/pre_aggregation.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "aggregation/geometry/geometric_median.h"
#include "base/random.h"
#include "base/status_macros.h"

namespace koinon::aggregation {
namespace {

using Spec = v1::PreAggregation;

// Cosines follow from a Gram matrix that is good to about this much.
constexpr double kCosineSlack = 1e-5;
constexpr int64_t kLargestBucket = 1'000'000;

absl::Status CheckNorm(absl::string_view field, double norm) {
  if (norm > 0 && std::isfinite(norm)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "%s.norm is %g, expected a finite number > 0", field, norm));
}

absl::Status CheckBounding(absl::string_view field,
                           const Spec::NormBounding& spec) {
  if (!Spec::NormBounding::Outside_IsValid(spec.outside())) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, ".outside is number ", spec.outside(),
                     ", expected ZEROED or DROPPED"));
  }
  return CheckNorm(field, spec.norm());
}

absl::Status CheckThreshold(absl::string_view field, double threshold) {
  if (threshold >= -1 && threshold <= 1) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "%s.threshold is %g, expected a cosine in [-1, 1]", field, threshold));
}

absl::Status CheckBucket(absl::string_view field, int64_t size) {
  if (size >= 2 && size <= kLargestBucket) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      field, ".size is ", size, ", expected 2 to ", kLargestBucket));
}

double Norm(const Points& points, size_t i) {
  return std::sqrt(points.SquaredNorm(i));
}

// Scales points and notes it for the updates that they stand for.
void Clip(const std::vector<double>& factors, TracedPoints* traced) {
  std::vector<double>& noted = traced->clip_factors;
  if (noted.empty()) noted.assign(traced->points.updates(), 1);
  for (size_t i = 0; i < factors.size(); ++i) {
    for (size_t update : traced->members[i]) noted[update] *= factors[i];
  }
  traced->points.Scale(factors);
}

// A point without length is never longer than the bound.
void ClipTo(double bound, TracedPoints* traced) {
  std::vector<double> factors;
  for (size_t i = 0; i < traced->points.size(); ++i) {
    const double norm = Norm(traced->points, i);
    factors.push_back(norm > bound ? bound / norm : 1);
  }
  Clip(factors, traced);
}

// Leaves out the points that have a reason.
void Drop(const std::vector<std::string>& reasons, TracedPoints* traced) {
  std::vector<size_t> kept;
  std::vector<std::vector<size_t>> members;
  for (size_t i = 0; i < reasons.size(); ++i) {
    if (reasons[i].empty()) {
      kept.push_back(i);
      members.push_back(traced->members[i]);
      continue;
    }
    for (size_t update : traced->members[i]) {
      traced->dropped[update] = reasons[i];
    }
  }
  traced->points.Keep(kept);
  traced->members = std::move(members);
}

void Bound(const Spec::NormBounding& spec, TracedPoints* traced) {
  const Points& points = traced->points;
  std::vector<double> factors(points.size(), 1);
  std::vector<std::string> reasons(points.size());
  for (size_t i = 0; i < points.size(); ++i) {
    const double norm = Norm(points, i);
    if (norm <= spec.norm()) continue;
    factors[i] = 0;
    reasons[i] = absl::StrFormat("norm_bounding: norm %g, at most %g", norm,
                                 spec.norm());
  }
  if (spec.outside() == Spec::NormBounding::DROPPED) {
    Drop(reasons, traced);
  } else {
    Clip(factors, traced);
  }
}

void ClipLongest(size_t f, TracedPoints* traced) {
  const size_t m = traced->points.size();
  const size_t clipped = 2 * f * (m - f) / m;
  std::vector<double> norms;
  for (size_t i = 0; i < m; ++i) norms.push_back(Norm(traced->points, i));
  std::sort(norms.begin(), norms.end(), std::greater<>());
  ClipTo(norms[clipped], traced);
}

// The points with a length, all made 1 long.
struct Directions {
  std::vector<size_t> index;  // of the point
  Points points;
};

Directions DirectionsOf(const Points& points) {
  std::vector<size_t> index;
  for (size_t i = 0; i < points.size(); ++i) {
    if (points.SquaredNorm(i) > 0) index.push_back(i);
  }
  Gram gram;  // centred at the origin, whose products are therefore 0
  gram.n = index.size();
  gram.products.resize(gram.points() * gram.points());
  for (size_t i = 0; i < gram.n; ++i) {
    for (size_t j = 0; j < gram.n; ++j) {
      gram.products[i * gram.points() + j] =
          i == j ? 1
                 : points.Dot(index[i], index[j]) /
                       (Norm(points, index[i]) * Norm(points, index[j]));
    }
  }
  const std::vector<double> ones(gram.n, 1);
  return {std::move(index), Points(std::move(gram), ones, ones)};
}

// Cosine of each direction with their geometric median; empty if that has no
// direction.
std::vector<double> CosinesWithCentre(const Points& directions) {
  const std::vector<double> ones(directions.size(), 1);
  const Centre centre = GeometricMedian(directions, ones);
  std::vector<double> dots;
  double square = 0;
  for (size_t i = 0; i < directions.size(); ++i) {
    double dot = 0;
    for (size_t j = 0; j < directions.size(); ++j) {
      dot += centre.coefficients[j] * directions.Dot(i, j);
    }
    dots.push_back(dot);
    square += centre.coefficients[i] * dot;
  }
  if (!(square > kCosineSlack * kCosineSlack)) return {};
  for (double& dot : dots) dot /= std::sqrt(square);
  return dots;
}

void FilterByCosine(double threshold, TracedPoints* traced) {
  const Directions directions = DirectionsOf(traced->points);
  if (directions.index.empty()) return;
  const std::vector<double> cosines = CosinesWithCentre(directions.points);
  std::vector<std::string> reasons(traced->points.size());
  for (size_t i = 0; i < cosines.size(); ++i) {
    if (cosines[i] >= threshold - kCosineSlack) continue;
    reasons[directions.index[i]] = absl::StrFormat(
        "cosine_filter: cosine %.4f, at least %g", cosines[i], threshold);
  }
  Drop(reasons, traced);
}

// The point itself, then the nearest others; of equally near ones the lower
// index.
Points::Terms MeanOfNearest(const Points& points, size_t i, size_t count) {
  std::vector<std::pair<double, size_t>> others;
  for (size_t j = 0; j < points.size(); ++j) {
    if (j != i) others.emplace_back(points.SquaredDistance(i, j), j);
  }
  std::sort(others.begin(), others.end());
  Points::Terms terms = {{i, 1.0 / static_cast<double>(count)}};
  for (size_t k = 0; k + 1 < count; ++k) {
    terms.emplace_back(others[k].second, terms[0].second);
  }
  std::sort(terms.begin(), terms.end());
  return terms;
}

void MixNearest(size_t f, TracedPoints* traced) {
  Points& points = traced->points;
  std::vector<Points::Terms> mixing;
  for (size_t i = 0; i < points.size(); ++i) {
    mixing.push_back(MeanOfNearest(points, i, points.size() - f));
  }
  points.Mix(mixing, {points.weights().begin(), points.weights().end()});
}

void Bucket(size_t size, uint64_t seed, TracedPoints* traced) {
  Points& points = traced->points;
  std::vector<size_t> order(points.size());
  std::iota(order.begin(), order.end(), size_t{0});
  Random(seed).Shuffle(&order);
  std::vector<Points::Terms> mixing;
  std::vector<double> weights;
  std::vector<std::vector<size_t>> members;
  for (size_t begin = 0; begin < order.size(); begin += size) {
    const size_t end = std::min(order.size(), begin + size);
    mixing.emplace_back();
    weights.push_back(0);
    members.emplace_back();
    for (size_t k = begin; k < end; ++k) {
      const size_t i = order[k];
      mixing.back().emplace_back(i, 1.0 / static_cast<double>(end - begin));
      weights.back() += points.weight(i);
      members.back().insert(members.back().end(), traced->members[i].begin(),
                            traced->members[i].end());
    }
    std::sort(mixing.back().begin(), mixing.back().end());
    std::sort(members.back().begin(), members.back().end());
  }
  points.Mix(mixing, std::move(weights));
  traced->members = std::move(members);
}

}  // namespace

TracedPoints::TracedPoints(Points p)
    : points(std::move(p)), members(points.size()), dropped(points.updates()) {
  for (size_t i = 0; i < points.size(); ++i) members[i] = {i};
}

std::string Got(size_t n, size_t m) {
  if (m == n) return absl::StrCat("got ", n);
  return absl::StrCat("got ", m, " after the pre-aggregations of ", n,
                      " updates");
}

absl::StatusOr<PreAggregation> PreAggregation::Create(const Spec& spec,
                                                      absl::string_view field) {
  PreAggregation step(spec);
  const std::string at = absl::StrCat(field, ".", step.name());
  switch (spec.kind_case()) {
    case Spec::kNormClipping:
      ABSL_RETURN_IF_ERROR(CheckNorm(at, spec.norm_clipping().norm()));
      return step;
    case Spec::kNormBounding:
      ABSL_RETURN_IF_ERROR(CheckBounding(at, spec.norm_bounding()));
      return step;
    case Spec::kArc: {
      ABSL_ASSIGN_OR_RETURN(
          step.attackers_,
          Attackers::Create(at, spec.arc().f(), spec.arc().f_fraction(), 0.5));
      return step;
    }
    case Spec::kCosineFilter:
      ABSL_RETURN_IF_ERROR(
          CheckThreshold(at, spec.cosine_filter().threshold()));
      return step;
    case Spec::kNearestNeighbourMixing: {
      const auto& mixing = spec.nearest_neighbour_mixing();
      ABSL_ASSIGN_OR_RETURN(
          step.attackers_,
          Attackers::Create(at, mixing.f(), mixing.f_fraction(), 0.5));
      return step;
    }
    case Spec::kBucketing:
      ABSL_RETURN_IF_ERROR(CheckBucket(at, spec.bucketing().size()));
      return step;
    case Spec::KIND_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      field,
      " is empty or unknown, expected norm_clipping, norm_bounding, arc, "
      "cosine_filter, nearest_neighbour_mixing or bucketing"));
}

absl::string_view PreAggregation::name() const {
  switch (spec_.kind_case()) {
    case Spec::kNormClipping:
      return "norm_clipping";
    case Spec::kNormBounding:
      return "norm_bounding";
    case Spec::kArc:
      return "arc";
    case Spec::kCosineFilter:
      return "cosine_filter";
    case Spec::kNearestNeighbourMixing:
      return "nearest_neighbour_mixing";
    case Spec::kBucketing:
      return "bucketing";
    case Spec::KIND_NOT_SET:
      break;
  }
  return "unknown";
}

bool PreAggregation::NeedsDistances() const {
  return spec_.kind_case() != Spec::kBucketing;
}

absl::Status PreAggregation::Check(size_t n, size_t m) const {
  const auto f = static_cast<size_t>(attackers_.Of(n));
  if (m >= 1 && 2 * f < m) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      name(), " with ", attackers_.Describe(n),
      " needs at least 2f + 1 = ", 2 * f + 1, " updates, ", Got(n, m)));
}

size_t PreAggregation::PointsAfter(size_t m) const {
  if (spec_.kind_case() != Spec::kBucketing) return m;
  const auto size = static_cast<size_t>(spec_.bucketing().size());
  return (m + size - 1) / size;
}

absl::Status PreAggregation::Apply(uint64_t seed, TracedPoints* traced) const {
  const size_t n = traced->points.updates();
  const size_t m = traced->points.size();
  ABSL_RETURN_IF_ERROR(Check(n, m));
  const auto f = static_cast<size_t>(attackers_.Of(n));
  switch (spec_.kind_case()) {
    case Spec::kNormClipping:
      ClipTo(spec_.norm_clipping().norm(), traced);
      break;
    case Spec::kNormBounding:
      Bound(spec_.norm_bounding(), traced);
      break;
    case Spec::kArc:
      ClipLongest(f, traced);
      break;
    case Spec::kCosineFilter:
      FilterByCosine(spec_.cosine_filter().threshold(), traced);
      break;
    case Spec::kNearestNeighbourMixing:
      MixNearest(f, traced);
      break;
    case Spec::kBucketing:
      Bucket(static_cast<size_t>(spec_.bucketing().size()), seed, traced);
      break;
    case Spec::KIND_NOT_SET:
      break;
  }
  if (traced->points.size() > 0) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(name(), " drops all of the ", m, " updates that it got"));
}

}  // namespace koinon::aggregation
