#ifndef KOINON_TOOLS_BENCH_AGGREGATE_BENCH_H_
#define KOINON_TOOLS_BENCH_AGGREGATE_BENCH_H_

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace koinon::tools {

struct AggregateCase {
  size_t updates = 0;     // n
  size_t parameters = 0;  // P, fp32
};

struct AggregateBenchOptions {
  std::vector<AggregateCase> cases = {
      {5, 1'000'000}, {10, 1'000'000}, {100, 1'000'000}, {10, 10'000'000}};
  std::vector<int> threads = {1, 2};
  // Interleaved repetitions, of which ratios are the medians.
  int repetitions = 9;
  // Each measurement lasts at least this long, over as many calls as it takes.
  double seconds = 0.02;
  // Whose NumPy to compare with. Empty: none.
  std::string python = "/usr/bin/python3";
};

// NumPy's side of one case.
struct RivalFigure {
  double seconds = 0;             // of one call, median
  double speedup = 0;             // its time over ours, median of ratios
  double largest_difference = 0;  // |its answer - ours|, over all elements
};

struct AggregateFigure {
  AggregateCase size;
  int threads = 0;
  double seconds = 0;         // of one FedAvg, median
  double input_gb_per_s = 0;  // 4 n P bytes over seconds; 1 GB is 1e9 bytes
  // The same bytes only read, on the same threads, in the fastest way found.
  double read_gb_per_s = 0;
  double of_read = 0;        // input over read, median of ratios
  double largest_error = 0;  // |ours - a plain mean in extended precision|
  // np.average: with example counts as weights, as they come (fp64), and with
  // the counts made fp32 before, which is faster and coarser.
  std::optional<RivalFigure> average;
  std::optional<RivalFigure> average_fp32;
  std::optional<RivalFigure> matvec;  // w @ S in fp32, by BLAS
  // Which NumPy and BLAS, or why there is none.
  std::string rival;
};

// FedAvg from memory against the memory's speed and NumPy on the same bytes. In
// each case first checks the answer (INTERNAL if it is wrong: nothing is worth
// timing then), then measures all sides in turns, for machines drift.
// INVALID_ARGUMENT for an empty case; RESOURCE_EXHAUSTED for one that does not
// fit in memory; an absent NumPy is not an error.
absl::StatusOr<std::vector<AggregateFigure>> MeasureAggregate(
    const AggregateBenchOptions& options);

// For people, with a line that says what the columns are.
std::string AggregateTable(absl::Span<const AggregateFigure> figures);
// One JSON array of objects; an absent rival is null.
std::string AggregateJson(absl::Span<const AggregateFigure> figures);

}  // namespace koinon::tools

#endif  // KOINON_TOOLS_BENCH_AGGREGATE_BENCH_H_
