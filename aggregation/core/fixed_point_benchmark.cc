// Adding batches of updates to running sums. GB/s of what has to be moved: each
// update read once, the sums read and written once.

#include <benchmark/benchmark.h>

#include <vector>

#include "absl/strings/str_cat.h"
#include "aggregation/core/fixed_point.h"
#include "base/random.h"

namespace koinon::aggregation {
namespace {

constexpr size_t kParameters = 1 << 20;

void BM_AddFixedPoint(benchmark::State& state, InstructionSet set) {
  const auto n = static_cast<size_t>(state.range(0));
  const FixedPoint format = *FixedPoint::Of({});
  std::vector<std::vector<float>> rows(n, std::vector<float>(kParameters));
  std::vector<FixedPointTerm> terms;
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < kParameters; ++j) {
      rows[i][j] = static_cast<float>(UniformAt(i + 1, j) - 0.5);
    }
    terms.push_back({static_cast<double>(10 + i), rows[i].data()});
  }
  std::vector<int64_t> sums(kParameters);
  // The answers first: the portable path's.
  std::vector<int64_t> expected(kParameters);
  bool same = !AddFixedPoint(format, terms, absl::MakeSpan(expected),
                             InstructionSet::kPortable);
  same = same && !AddFixedPoint(format, terms, absl::MakeSpan(sums), set);
  if (!same || sums != expected) return state.SkipWithError("wrong sums");
  for (auto _ : state) {
    sums[0] = 0;  // the rest may wrap around
    benchmark::DoNotOptimize(
        AddFixedPoint(format, terms, absl::MakeSpan(sums), set));
  }
  state.SetBytesProcessed(state.iterations() *
                          static_cast<int64_t>(kParameters * (4 * n + 16)));
}

void Register() {
  for (InstructionSet set : SupportedInstructionSets()) {
    auto* const benchmark = benchmark::RegisterBenchmark(
        std::string(absl::StrCat("AddFixedPoint/", InstructionSetName(set)))
            .c_str(),
        [set](benchmark::State& state) { BM_AddFixedPoint(state, set); });
    for (int n : {1, 4, 16, 64}) benchmark->Arg(n);
  }
}

}  // namespace
}  // namespace koinon::aggregation

int main(int argc, char** argv) {
  koinon::aggregation::Register();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
