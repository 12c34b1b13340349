#include "tools/bench/bench_updates.h"

#include <utility>

#include "absl/strings/str_format.h"
#include "base/model_layout.h"
#include "base/status_macros.h"

namespace koinon::tools {

std::vector<double> BenchWeights(const AggregateCase& size) {
  std::vector<double> weights;
  for (size_t i = 0; i < size.updates; ++i) {
    weights.push_back(100.0 + static_cast<double>(RandomAt(2, i) % 900));
  }
  return weights;
}

absl::StatusOr<aggregation::UpdateSet> BenchUpdateSet(
    const AggregateCase& size,
    const std::function<std::unique_ptr<aggregation::UpdateSource>(size_t i)>&
        source) {
  aggregation::UpdateSet::Expected expected;
  ABSL_ASSIGN_OR_RETURN(
      expected.layout,
      ModelLayout::Create({{"parameters",
                            DType::kF32,
                            {static_cast<int64_t>(size.parameters)}}}));
  const std::vector<double> weights = BenchWeights(size);
  std::vector<aggregation::Update> updates;
  for (size_t i = 0; i < size.updates; ++i) {
    aggregation::Update update;
    update.worker = absl::StrFormat("w%06d", i);
    update.weight = weights[i];
    update.layout_hash = expected.layout.hash();
    update.elements = size.parameters;
    update.values = source(i);
    updates.push_back(std::move(update));
  }
  std::vector<aggregation::Refusal> refusals;
  auto set = aggregation::UpdateSet::Create(std::move(expected),
                                            std::move(updates), &refusals);
  if (!refusals.empty()) return refusals[0].reason;
  return set;
}

}  // namespace koinon::tools
