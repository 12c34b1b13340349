#ifndef KOINON_TOOLS_BENCH_ROUND_BENCH_H_
#define KOINON_TOOLS_BENCH_ROUND_BENCH_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/job.pb.h"

namespace koinon::bench {

// What one coordinator process does with `workers` workers and a model of
// `parameters` fp32 values: rounds as fast as they go, durable acceptance,
// plaintext over loopback.
struct RoundFigure {
  size_t workers = 0;
  size_t parameters = 0;
  size_t rounds = 0;
  double round_seconds = 0;       // median, publication to publication
  double results_per_second = 0;  // workers / round_seconds
  double peak_rss_mib = 0;        // of the coordinator: VmHWM
  double cpu_seconds = 0;         // of the coordinator, per round
  double pulled_mib = 0;          // per round, over all workers
  double pushed_mib = 0;
  double spool_mib = 0;  // what the spool takes on the disk in the end
};

struct RoundBenchOptions {
  std::string coordinator_binary;
  std::string work_dir;  // for state directories; on a real disk
  size_t rounds = 7;     // measured, after one that is not
  // Of FedAvg. Unspecified: the coordinator's default for so many workers.
  v1::AggregationSpec::FedAvg::Arithmetic arithmetic =
      v1::AggregationSpec::FedAvg::ARITHMETIC_UNSPECIFIED;
  absl::Duration patience = absl::Minutes(5);
};

absl::StatusOr<RoundFigure> MeasureRounds(const RoundBenchOptions& options,
                                          size_t workers, size_t parameters);

// The same beside a rival in interleaved runs: A B A B ...
struct RivalFigure {
  RoundFigure ours;                // of the last pair
  double rival_round_seconds = 0;  // median
  double rival_peak_rss_mib = 0;   // median
  double round_rate_ratio = 0;     // median of the pairs' ratios, > 1: faster
  double memory_ratio = 0;         // ours / rival's, median
  size_t pairs = 0;
};

// `rival`: a Python program called as "RIVAL N P ROUNDS inplace" that prints
// "round X s" and "RSS peak Y MiB" (docs/benchmarks.md).
absl::StatusOr<RivalFigure> CompareRounds(const RoundBenchOptions& options,
                                          const std::string& rival,
                                          size_t workers, size_t parameters,
                                          size_t pairs);

// What `workers` connected workers that do nothing cost the coordinator.
struct IdleFigure {
  size_t workers = 0;
  double connect_seconds = 0;
  double kib_per_worker = 0;  // growth of the resident set
};
absl::StatusOr<IdleFigure> MeasureIdle(const RoundBenchOptions& options,
                                       size_t workers);

}  // namespace koinon::bench

#endif  // KOINON_TOOLS_BENCH_ROUND_BENCH_H_
