// One training step under Google Benchmark:
//   bazel run //kernels:train_benchmark
// Figures with their bound, interleaved: koinon bench train.

#include <benchmark/benchmark.h>

#include "kernels/train_bench.h"

namespace koinon::kernels {
namespace {

void TrainModel(benchmark::State& state, const char* model) {
  TrainingStep::Options options;
  options.threads = static_cast<int>(state.range(0));
  auto step = TrainingStep::Create(model, options);
  if (!step.ok()) {
    state.SkipWithError(step.status().ToString().c_str());
    return;
  }
  for (auto _ : state) {
    if (absl::Status status = step->Run(); !status.ok()) {
      state.SkipWithError(status.ToString().c_str());
      return;
    }
  }
  state.SetItemsProcessed(state.iterations() * step->batch_size());
  state.counters["flops"] = benchmark::Counter(
      step->operations(), benchmark::Counter::kIsIterationInvariantRate);
}

BENCHMARK_CAPTURE(TrainModel, cnn, "cnn")
    ->ArgName("threads")
    ->Arg(1)
    ->Arg(2)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK_CAPTURE(TrainModel, mlp, "mlp")
    ->ArgName("threads")
    ->Arg(1)
    ->Arg(2)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

}  // namespace
}  // namespace koinon::kernels

BENCHMARK_MAIN();
