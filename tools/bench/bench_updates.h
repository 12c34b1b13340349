#ifndef KOINON_TOOLS_BENCH_BENCH_UPDATES_H_
#define KOINON_TOOLS_BENCH_BENCH_UPDATES_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "aggregation/core/update_set.h"
#include "base/random.h"

namespace koinon::tools {

// The updates of a benchmark: the same everywhere, and any value of them at
// once.
struct AggregateCase {
  size_t updates = 0;     // n
  size_t parameters = 0;  // P, fp32
};

// Element j of update i: uniform in [-1, 1], and each update a little shorter
// than that by a part of its own. Krum's scores are then apart, and no rounding
// decides them.
inline float BenchValue(const AggregateCase& size, size_t i, size_t j) {
  constexpr size_t kPrime = 7919;
  const float length =
      0.75f + 0.25f * static_cast<float>(i * kPrime % size.updates) /
                  static_cast<float>(size.updates);
  const auto bits =
      static_cast<int32_t>(RandomAt(1, i * size.parameters + j) >> 32);
  return length * static_cast<float>(bits) * 0x1p-31f;
}

// Example counts. [n]
std::vector<double> BenchWeights(const AggregateCase& size);

// The updates as a rule gets them, the values of update i from `source(i)`.
absl::StatusOr<aggregation::UpdateSet> BenchUpdateSet(
    const AggregateCase& size,
    const std::function<std::unique_ptr<aggregation::UpdateSource>(size_t i)>&
        source);

}  // namespace koinon::tools

#endif  // KOINON_TOOLS_BENCH_BENCH_UPDATES_H_
