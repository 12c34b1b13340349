#ifndef KOINON_TOOLS_BENCH_BENCH_RULES_H_
#define KOINON_TOOLS_BENCH_BENCH_RULES_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/job.pb.h"

namespace koinon::tools {

// One of NumPy's ways to the same answer.
struct RivalForm {
  std::string label;    // for tables: "np.sort"
  std::string request;  // what the rival's script is asked: "trimmed_sort 20"
  // How far its answer may lie from ours, for values in [-1, 1].
  double tolerance = 0;
  // Floating-point operations of one call, roughly; 0: few. Those that would
  // take minutes are not run.
  double operations = 0;
};

// A rule as `koinon bench aggregate` measures it on n updates.
struct BenchRule {
  enum Family {
    kMean,     // one pass: a weighted mean
    kColumns,  // one pass: a selection in each column
    kGram,     // two passes: n (n+1) P operations for the Gram matrix, and a
               // mean
    kBoth,     // the Gram matrix, then columns
  };
  std::string name;
  Family family = kMean;
  v1::AggregationSpec spec;
  size_t f = 0;        // that a Gram rule reckons with
  size_t keep = 1;     // updates that Krum keeps
  size_t trim = 0;     // values that the trimmed mean leaves out on each side
  int iterations = 0;  // of the geometric median
  std::vector<RivalForm> rivals;
  // Another rule of ours to be timed beside this one; empty: none.
  std::string baseline;

  bool gram() const { return family == kGram || family == kBoth; }
};

// "fedavg", "fedavg_fixed_point", "median", "trimmed_mean" (20 % per side),
// "krum", "multi_krum" (f = n/5, as in the peers' scripts), "bulyan"
// (f = (n-3)/4 at most n/5), "geometric_median_1" and "geometric_median_100"
// (so many iterations).
std::vector<std::string> BenchRuleNames();

// INVALID_ARGUMENT lists the known names.
absl::StatusOr<BenchRule> MakeBenchRule(const std::string& name, size_t n);

}  // namespace koinon::tools

#endif  // KOINON_TOOLS_BENCH_BENCH_RULES_H_
