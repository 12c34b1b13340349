#ifndef KOINON_TOOLS_BENCH_AGGREGATE_CHECK_H_
#define KOINON_TOOLS_BENCH_AGGREGATE_CHECK_H_

#include <cstddef>
#include <functional>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "proto/job.pb.h"
#include "tools/bench/bench_rules.h"

namespace koinon::tools {

// Coordinates of an answer that are compared with a plain computation in wide
// arithmetic, evenly spread.
inline constexpr size_t kCheckedCoordinates = 4096;
// Gram rules' choices are compared with plain ones, over all coordinates, if
// there are at most so many differences to square; beyond it with NumPy's.
inline constexpr double kMostDifferences = 2e8;

// What a rule made of n updates of P values in [-1, 1].
struct AggregateAnswer {
  size_t n = 0;
  size_t P = 0;
  std::function<float(size_t i, size_t j)> value;  // of update i
  absl::Span<const double> weights;                // [n]
  const v1::AggregationReport* report = nullptr;
  std::function<float(size_t j)> result;
  // Whether every value can be looked at quickly.
  bool choices = true;
};

// The largest error over the checked coordinates. INTERNAL, saying where, for a
// wrong one, or a choice of updates that a plain computation does not make.
absl::StatusOr<double> CheckAggregate(const BenchRule& rule,
                                      const AggregateAnswer& answer);

}  // namespace koinon::tools

#endif  // KOINON_TOOLS_BENCH_AGGREGATE_CHECK_H_
