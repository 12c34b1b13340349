// FedAvg from memory, on each of the processor's paths: where its time goes.
// Figures for people, beside the machine's bandwidth and NumPy, come from
// `koinon bench aggregate`.
//
//   bazel run -c opt //aggregation:aggregate_benchmark
#include <benchmark/benchmark.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "aggregation/core/combine.h"
#include "aggregation/core/instruction_set.h"
#include "aggregation/core/rows.h"
#include "base/check.h"
#include "base/random.h"

namespace koinon::aggregation {
namespace {

struct Round {
  std::vector<std::vector<float>> rows;
  std::vector<double> weights;
  std::vector<Update> updates;

  Round(size_t n, size_t elements, const ModelLayout& layout) {
    for (size_t i = 0; i < n; ++i) {
      rows.emplace_back(elements);
      for (size_t j = 0; j < elements; ++j) {
        rows[i][j] = static_cast<float>(UniformAt(i, j));
      }
    }
    for (size_t i = 0; i < n; ++i) {
      weights.push_back(100.0 + static_cast<double>(i));
      Update update;
      update.worker = absl::StrFormat("w%06d", i);
      update.weight = weights.back();
      update.layout_hash = layout.hash();
      update.elements = elements;
      update.values = std::make_unique<MemorySource>(rows[i]);
      updates.push_back(std::move(update));
    }
  }
};

// Arguments: instruction set, updates, parameters, threads.
void BM_WeightedMean(benchmark::State& state) {
  const auto instruction_set = static_cast<InstructionSet>(state.range(0));
  const auto n = static_cast<size_t>(state.range(1));
  const auto elements = static_cast<size_t>(state.range(2));
  if (!ResolveInstructionSet(instruction_set).ok()) {
    state.SkipWithError("this processor lacks the instruction set");
    return;
  }
  UpdateSet::Expected expected;
  auto layout = ModelLayout::Create({{"p", DType::kF32, {state.range(2)}}});
  KOINON_CHECK(layout.ok());
  expected.layout = *std::move(layout);
  Round round(n, elements, expected.layout);
  std::vector<Refusal> refusals;
  const UpdateSet set = UpdateSet::Create(std::move(expected),
                                          std::move(round.updates), &refusals);
  KOINON_CHECK(set.size() == n);
  const ExactWeights weights = ExactWeights::Of(round.weights);
  ThreadPool pool(static_cast<int>(state.range(3)));
  std::vector<float> mean(elements);
  for (auto _ : state) {
    MemorySink sink(absl::MakeSpan(mean));
    const absl::Status status = CombineRows(set.layout(), RowsOf(set), weights,
                                            instruction_set, &pool, &sink);
    KOINON_CHECK(status.ok());
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) *
                          state.range(1) * state.range(2) * 4);
  state.SetLabel(std::string(InstructionSetName(instruction_set)));
}
BENCHMARK(BM_WeightedMean)
    ->ArgNames({"instruction_set", "updates", "parameters", "threads"})
    ->ArgsProduct({{1, 2, 3}, {5, 10, 100}, {1'000'000}, {1, 2}})
    ->ArgsProduct({{1}, {10}, {10'000'000}, {1, 2}})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace koinon::aggregation

BENCHMARK_MAIN();
