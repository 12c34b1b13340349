#ifndef KOINON_TOOLS_BENCH_AGGREGATE_BENCH_H_
#define KOINON_TOOLS_BENCH_AGGREGATE_BENCH_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "tools/bench/bench_rules.h"
#include "tools/bench/bench_updates.h"

namespace koinon::tools {

struct AggregateBenchOptions {
  std::vector<std::string> rules = BenchRuleNames();  // bench_rules.h
  std::vector<AggregateCase> cases = {{5, 1'000'000},   {10, 1'000'000},
                                      {32, 1'000'000},  {64, 1'000'000},
                                      {100, 1'000'000}, {10, 10'000'000}};
  std::vector<int> threads = {1, 2};
  // Interleaved repetitions, of which ratios are the medians; fewer, but at
  // least 3, where they would take long.
  int repetitions = 9;
  // Each measurement lasts at least this long, over as many calls as it takes.
  double seconds = 0.02;
  // Whose NumPy to compare with. Empty: none.
  std::string python = "/usr/bin/python3";
};

// Another's side of one case.
struct RivalFigure {
  std::string name;
  double seconds = 0;             // of one call, median
  double speedup = 0;             // its time over ours, median of ratios
  double largest_difference = 0;  // |its answer - ours|, over all elements
  double tolerance = 0;           // that was allowed for it
  int runs = 0;                   // 1: so slow that it was measured once
};

struct AggregateFigure {
  std::string rule;
  AggregateCase size;
  int threads = 0;
  double seconds = 0;         // of one aggregation, median
  double input_gb_per_s = 0;  // 4 n P bytes over seconds; 1 GB is 1e9 bytes
  // The same bytes only read, on the same threads, in the fastest way found.
  double read_gb_per_s = 0;
  double of_read = 0;  // input over read, median of ratios
  // Of rules that need a Gram matrix, n (n+1) P operations over the whole
  // rule's seconds, and fp32 multiply-adds in registers on as many threads.
  // Zero for others.
  double gflops = 0;
  double peak_gflops = 0;
  double of_peak = 0;        // median of ratios
  double largest_error = 0;  // over the coordinates of aggregate_check.h
  std::vector<RivalFigure> rivals;
  // Which NumPy and BLAS, or why there is none.
  std::string rival;
};

// Rules over updates in memory against the memory's speed, the processor's and
// NumPy on the same bytes. In each case first checks the answers (INTERNAL if
// one is wrong, or NumPy's is another: nothing is worth timing then), then
// measures all sides in turns, for machines drift. Rivals that take more than a
// few seconds are measured once, and those that would take minutes not at all.
//
// INVALID_ARGUMENT for an empty case or an unknown rule; FAILED_PRECONDITION
// for a rule that needs more updates; RESOURCE_EXHAUSTED, before anything is
// run, for a case that does not fit in memory; an absent NumPy is not an error.
absl::StatusOr<std::vector<AggregateFigure>> MeasureAggregate(
    const AggregateBenchOptions& options);

// For people, with lines that say what the columns are.
std::string AggregateTable(absl::Span<const AggregateFigure> figures);
// One JSON array of objects.
std::string AggregateJson(absl::Span<const AggregateFigure> figures);

}  // namespace koinon::tools

#endif  // KOINON_TOOLS_BENCH_AGGREGATE_BENCH_H_
