#ifndef KOINON_AGGREGATION_RULES_TESTING_RULES_H_
#define KOINON_AGGREGATION_RULES_TESTING_RULES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "aggregation/core/aggregator.h"
#include "aggregation/core/update_set.h"

namespace koinon::aggregation {

// What the tests of rules share.

using TestRows = std::vector<std::vector<float>>;  // [n][P]

// An AggregationSpec in text format; ends the process if it is none.
v1::AggregationSpec SpecOf(const std::string& text);

struct RunOptions {
  int threads = 1;
  InstructionSet instruction_set = InstructionSet::kBest;
  uint64_t seed = 7;
  const UpdateSource* previous = nullptr;
};
struct Outcome {
  absl::Status status;  // MakeAggregator's or Aggregate's
  v1::AggregationReport report;
  std::vector<float> values;  // [P]
  size_t committed = 0;
};
Outcome AggregateBy(const std::string& spec, const UpdateSet& set,
                    const RunOptions& options = {});
// Every update from one example.
Outcome AggregateBy(const std::string& spec, const TestRows& rows,
                    const RunOptions& options = {});

// |a - b|
double Distance(absl::Span<const float> a, absl::Span<const float> b);
// The plain mean.
std::vector<float> MeanOf(const TestRows& rows);

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_RULES_TESTING_RULES_H_
