// One training step under Google Benchmark, for profilers:
//   bazel run //kernels:train_benchmark -- --benchmark_filter=cnn/fp32
// Figures with their bound, interleaved: koinon bench train.

#include <benchmark/benchmark.h>

#include <string>

#include "kernels/train_bench.h"

namespace koinon::kernels {
namespace {

void TrainModel(benchmark::State& state, const std::string& model,
                bool bfloat16) {
  TrainingStep::Options options;
  options.threads = static_cast<int>(state.range(0));
  options.bfloat16 = bfloat16;
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

void RegisterAll() {
  for (const char* model :
       {"cnn", "mlp", "resnet20", "mobilenet_v3_small", "gpt2-124m"}) {
    for (bool bfloat16 : {false, true}) {
      const std::string name =
          std::string(model) + (bfloat16 ? "/bf16" : "/fp32");
      benchmark::RegisterBenchmark(name.c_str(),
                                   [model, bfloat16](benchmark::State& state) {
                                     TrainModel(state, model, bfloat16);
                                   })
          ->ArgName("threads")
          ->Arg(1)
          ->Arg(2)
          ->Unit(benchmark::kMillisecond)
          ->UseRealTime();
    }
  }
}

}  // namespace
}  // namespace koinon::kernels

int main(int argc, char** argv) {
  koinon::kernels::RegisterAll();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
