#ifndef KOINON_AGGREGATION_GEOMETRY_PRE_AGGREGATION_H_
#define KOINON_AGGREGATION_GEOMETRY_PRE_AGGREGATION_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "aggregation/geometry/attackers.h"
#include "aggregation/geometry/points.h"
#include "proto/job.pb.h"

namespace koinon::aggregation {

// Points, and what became of the updates on the way to them.
struct TracedPoints {
  explicit TracedPoints(Points points);

  Points points;
  // [m]: the updates that a point stands for: one, or a bucket's.
  std::vector<std::vector<size_t>> members;
  std::vector<double> clip_factors;  // [n], [0, 1]; empty: nothing clips
  std::vector<std::string> dropped;  // [n]: why it was; empty: it was not
};

// "got 3", or how m points came of n updates: for error messages.
std::string Got(size_t n, size_t m);

// One step of v1::AggregationSpec.pre_aggregation: points in, points out.
// Immutable, thread-safe.
class PreAggregation {
 public:
  // `field`: where `spec` stands ("aggregation.pre_aggregation[0]").
  // INVALID_ARGUMENT, naming the field, for options that are out of range or
  // contradict each other.
  static absl::StatusOr<PreAggregation> Create(const v1::PreAggregation& spec,
                                               absl::string_view field);

  absl::string_view name() const;  // "norm_clipping"
  bool NeedsDistances() const;
  // FAILED_PRECONDITION unless the step can be applied to m points made of n
  // updates; says what it needs and what it got.
  absl::Status Check(size_t n, size_t m) const;
  // The largest number of points that can become of m.
  size_t PointsAfter(size_t m) const;
  // Check's errors, and FAILED_PRECONDITION if no point is left. `seed` decides
  // what is left to chance.
  absl::Status Apply(uint64_t seed, TracedPoints* traced) const;

 private:
  explicit PreAggregation(const v1::PreAggregation& spec) : spec_(spec) {}

  v1::PreAggregation spec_;
  Attackers attackers_;
};

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_GEOMETRY_PRE_AGGREGATION_H_
