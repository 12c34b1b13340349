#include "aggregation/rules/testing_rules.h"

#include <cmath>
#include <utility>

#include "aggregation/core/testing_updates.h"
#include "base/check.h"
#include "base/thread_pool.h"
#include "google/protobuf/text_format.h"

namespace koinon::aggregation {

v1::AggregationSpec SpecOf(const std::string& text) {
  v1::AggregationSpec spec;
  KOINON_CHECK(google::protobuf::TextFormat::ParseFromString(text, &spec));
  return spec;
}

Outcome AggregateBy(const std::string& spec, const UpdateSet& set,
                    const RunOptions& options) {
  Outcome outcome;
  auto rule = MakeAggregator(SpecOf(spec),
                             {.instruction_set = options.instruction_set});
  if (!rule.ok()) {
    outcome.status = rule.status();
    return outcome;
  }
  ThreadPool pool(options.threads);
  CheckingSink sink(set.elements());
  auto report = (*rule)->Aggregate(
      set, {.pool = &pool, .seed = options.seed, .previous = options.previous},
      &sink);
  outcome.status = report.status();
  outcome.committed = sink.committed;
  outcome.values = std::move(sink.values);
  if (report.ok()) {
    outcome.report = *std::move(report);
    KOINON_CHECK(sink.committed == set.elements());
  }
  return outcome;
}

Outcome AggregateBy(const std::string& spec, const TestRows& rows,
                    const RunOptions& options) {
  return AggregateBy(spec, TestSet(rows, std::vector<double>(rows.size(), 1)),
                     options);
}

double Distance(absl::Span<const float> a, absl::Span<const float> b) {
  KOINON_CHECK(a.size() == b.size());
  double square = 0;
  for (size_t j = 0; j < a.size(); ++j) {
    const double difference = double{a[j]} - b[j];
    square += difference * difference;
  }
  return std::sqrt(square);
}

std::vector<float> MeanOf(const TestRows& rows) {
  std::vector<float> mean;
  for (size_t j = 0; j < rows[0].size(); ++j) {
    double sum = 0;
    for (const auto& row : rows) sum += row[j];
    mean.push_back(static_cast<float>(sum / static_cast<double>(rows.size())));
  }
  return mean;
}

}  // namespace koinon::aggregation
