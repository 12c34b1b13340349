#ifndef KOINON_TOOLS_BENCH_DHT_BENCH_H_
#define KOINON_TOOLS_BENCH_DHT_BENCH_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace koinon::tools {

// What the DHT costs over real gRPC on the loopback: all nodes in this process,
// each with its own connections, operations one after the other. Answers are
// checked before anything is timed, and again while it is.

struct DhtBenchOptions {
  size_t nodes = 128;
  size_t operations = 2'000;  // puts, and then as many gets
  size_t value_bytes = 512;
  double kill = 0.5;  // of the nodes, [0, 1); 0: none
  bool plaintext = true;
  bool tls = true;
  uint64_t seed = 1;
  // Whose opendht module to compare with; empty: none.
  std::string python = "/usr/bin/python3";
};

struct DhtLatencies {
  size_t count = 0;
  size_t failed = 0;
  double mean_ms = 0;
  double p50_ms = 0;
  double p95_ms = 0;
  double p99_ms = 0;
  std::string first_failure;  // what the first that failed said
};
// Of milliseconds, in any order.
DhtLatencies Summarize(std::vector<double> ms, size_t failed);

struct DhtFigure {
  std::string what;  // "plaintext", "mutual TLS", "OpenDHT 2.4.12"
  size_t nodes = 0;
  DhtLatencies put;
  DhtLatencies get;
  // Of the same values, after so many of the nodes have died at once.
  size_t killed = 0;
  DhtLatencies get_after;
};

struct DhtBenchResult {
  std::vector<DhtFigure> figures;
  // Why the rival is absent; empty if it is there.
  std::string rival_absent;
};

// INTERNAL if an answer is wrong.
absl::StatusOr<DhtBenchResult> MeasureDht(const DhtBenchOptions& options);

std::string DhtTable(const DhtBenchResult& result);
std::string DhtJson(const DhtBenchResult& result);

}  // namespace koinon::tools

#endif  // KOINON_TOOLS_BENCH_DHT_BENCH_H_
