// Median and trimmed mean of columns from memory, on each instruction set:
// where their time goes. Checked against the reference before they are timed.
// Figures for people, beside the machine's bandwidth and NumPy, come from
// `koinon bench aggregate`.
//
//   bazel run -c opt //aggregation:columns_benchmark
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "aggregation/core/columns.h"
#include "aggregation/reference/columns.h"
#include "base/check.h"
#include "base/random.h"

namespace koinon::aggregation {
namespace {

constexpr size_t kElements = 1'000'000;
constexpr size_t kMostRows = 1000;
// Of the columns, that are compared with the reference.
constexpr size_t kCheckedEvery = 1009;

// Spread as training's updates are: by the sum of four uniform numbers.
float ValueAt(size_t row, size_t j) {
  const uint64_t bits = RandomAt(row, j);
  double sum = -2;
  for (int k = 0; k < 4; ++k) {
    sum += static_cast<double>(bits >> 16 * k & 0xffff) / 65536;
  }
  return static_cast<float>(sum);
}

// Grows as it is asked for.
const std::vector<float>& RowAt(size_t i) {
  static auto* const rows = new std::vector<std::vector<float>>();
  rows->reserve(kMostRows);
  while (rows->size() <= i) {
    std::vector<float> row(kElements);
    for (size_t j = 0; j < kElements; ++j) row[j] = ValueAt(rows->size(), j);
    rows->push_back(std::move(row));
  }
  return (*rows)[i];
}

ColumnRule RuleFor(bool trimmed, size_t n) {
  ColumnRule rule;
  rule.kind = trimmed ? ColumnRule::kTrimmedMean : ColumnRule::kMedian;
  rule.trim = trimmed ? n / 5 : 0;
  return rule;
}

void Check(const ColumnRule& rule, size_t n, const std::vector<float>& result) {
  std::vector<std::vector<float>> rows(n);
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < kElements; j += kCheckedEvery) {
      rows[i].push_back(RowAt(i)[j]);
    }
  }
  const ReferenceColumns reference =
      rule.kind == ColumnRule::kMedian ? MedianReference(rows)
                                       : TrimmedMeanReference(rows, rule.trim);
  for (size_t k = 0; k < reference.value.size(); ++k) {
    KOINON_CHECK(std::fabs(result[k * kCheckedEvery] - reference.value[k]) <=
                 ColumnTolerance(reference, k));
  }
}

// Arguments: instruction set, trimmed, rows, threads. Bytes are the rows'.
void BM_Columns(benchmark::State& state) {
  const auto index = static_cast<size_t>(state.range(0));
  const bool trimmed = state.range(1) != 0;
  const auto n = static_cast<size_t>(state.range(2));
  const std::vector<InstructionSet> sets = SupportedInstructionSets();
  if (index >= sets.size()) {
    state.SkipWithError("this processor has fewer instruction sets");
    return;
  }
  auto layout = ModelLayout::Create({{"p", DType::kF32, {kElements}}});
  KOINON_CHECK(layout.ok());
  std::vector<MemorySource> sources;
  for (size_t i = 0; i < n; ++i) {
    sources.emplace_back(absl::MakeSpan(RowAt(i)));
  }
  ColumnInput input;
  for (const MemorySource& source : sources) {
    input.rows.push_back({&source, nullptr});
  }
  const ColumnRule rule = RuleFor(trimmed, n);
  ThreadPool pool(static_cast<int>(state.range(3)));
  std::vector<float> result(kElements);
  MemorySink sink(absl::MakeSpan(result));
  const auto reduce = [&] {
    KOINON_CHECK(
        ReduceColumns(*layout, input, rule, sets[index], &pool, &sink, nullptr)
            .ok());
  };
  reduce();
  Check(rule, n, result);
  for (auto _ : state) {
    reduce();
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(
      static_cast<int64_t>(state.iterations() * n * kElements * sizeof(float)));
  state.SetLabel(std::string(InstructionSetName(sets[index])));
}
BENCHMARK(BM_Columns)
    ->ArgNames({"set", "trimmed", "rows", "threads"})
    ->ArgsProduct({{0}, {0, 1}, {5, 10, 16, 32, 64, 100, 1000}, {1, 2}})
    ->ArgsProduct({{1, 2}, {0, 1}, {10, 100}, {1}})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace koinon::aggregation

BENCHMARK_MAIN();
