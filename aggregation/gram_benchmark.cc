// The Gram matrix from memory, beside the processor's multiply-add peak and the
// memory's read bandwidth, both measured in the same run on as many threads.
// Every answer is compared with the plain reference before it is timed.
//
//   bazel run -c opt //aggregation:gram_benchmark
#include <benchmark/benchmark.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "aggregation/core/gram.h"
#include "aggregation/core/instruction_set.h"
#include "aggregation/core/rows.h"
#include "aggregation/core/update_set.h"
#include "aggregation/reference/gram.h"
#include "base/check.h"
#include "base/model_layout.h"
#include "base/random.h"
#include "base/thread_pool.h"

#if defined(__x86_64__)
#include <immintrin.h>
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#endif

namespace koinon::aggregation {
namespace {

// Independent chains of fused multiply-adds in registers, twice as many as two
// ports of four cycles' latency need. Returns what the compiler must not drop.
constexpr int kChains = 16;
#if defined(__x86_64__)
__attribute__((target("avx512f"), noinline)) float SpinAvx512(int64_t rounds) {
  __m512 sums[kChains];
  for (int k = 0; k < kChains; ++k) sums[k] = _mm512_set1_ps(1.0f + k);
  const __m512 factor = _mm512_set1_ps(0.5f);
  const __m512 addend = _mm512_set1_ps(1.0f);
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 16
    for (int k = 0; k < kChains; ++k) {
      sums[k] = _mm512_fmadd_ps(sums[k], factor, addend);
    }
  }
  for (int k = 1; k < kChains; ++k) sums[0] = _mm512_add_ps(sums[0], sums[k]);
  return _mm512_cvtss_f32(sums[0]);
}

__attribute__((target("avx2,fma"), noinline)) float SpinAvx2(int64_t rounds) {
  constexpr int kRegisters = 12;
  __m256 sums[kRegisters];
  for (int k = 0; k < kRegisters; ++k) sums[k] = _mm256_set1_ps(1.0f + k);
  const __m256 factor = _mm256_set1_ps(0.5f);
  const __m256 addend = _mm256_set1_ps(1.0f);
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int k = 0; k < kRegisters; ++k) {
      sums[k] = _mm256_fmadd_ps(sums[k], factor, addend);
    }
  }
  for (int k = 1; k < kRegisters; ++k) {
    sums[0] = _mm256_add_ps(sums[0], sums[k]);
  }
  return _mm256_cvtss_f32(sums[0]);
}
#endif

// Multiply-adds, as two operations each, that one thread does in a round.
double SpinFlops(InstructionSet set) {
  return set == InstructionSet::kAvx512 ? 2.0 * 16 * kChains : 2.0 * 8 * 12;
}

float Spin(InstructionSet set, int64_t rounds) {
#if defined(__x86_64__)
  return set == InstructionSet::kAvx512 ? SpinAvx512(rounds) : SpinAvx2(rounds);
#else
  return 0;
#endif
}

double Seconds(const std::function<void()>& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
      .count();
}

// The best of several tries, since other work on the machine only ever slows.
double PeakFlops(InstructionSet set, ThreadPool* pool) {
  constexpr int64_t kRounds = 2'000'000;
  double best = 1e9;
  for (int i = 0; i < 5; ++i) {
    best = std::min(best, Seconds([&] {
                      pool->ParallelFor(pool->threads(), [&](size_t) {
                        benchmark::DoNotOptimize(Spin(set, kRounds));
                      });
                    }));
  }
  return SpinFlops(set) * kRounds * pool->threads() / best;
}

double ReadBandwidth(const std::vector<std::vector<float>>& rows,
                     ThreadPool* pool) {
  double best = 1e9;
  for (int i = 0; i < 5; ++i) {
    best = std::min(best, Seconds([&] {
                      pool->ParallelFor(rows.size(), [&](size_t r) {
                        uint32_t bits[64] = {};
                        const float* row = rows[r].data();
                        for (size_t j = 0; j + 64 <= rows[r].size(); j += 64) {
                          for (size_t k = 0; k < 64; ++k) {
                            bits[k] |= std::bit_cast<uint32_t>(row[j + k]);
                          }
                        }
                        benchmark::DoNotOptimize(bits);
                      });
                    }));
  }
  return 4.0 * static_cast<double>(rows.size() * rows[0].size()) / best;
}

struct Updates {
  std::vector<std::vector<float>> values;
  std::vector<MemorySource> sources;
  std::vector<WorkerId> workers;
  Rows rows;

  Updates(size_t n, size_t elements) : values(n) {
    for (size_t i = 0; i < n; ++i) {
      values[i].resize(elements);
      for (size_t j = 0; j < elements; ++j) {
        values[i][j] = static_cast<float>(UniformAt(i, j) - 0.45) * 0.01f;
      }
      workers.push_back(absl::StrFormat("w%06d", i));
    }
    sources.reserve(n);
    for (const auto& row : values) sources.emplace_back(row);
    for (size_t i = 0; i < n; ++i) rows.push_back({&sources[i], &workers[i]});
  }
};

// Of some pairs; all would take hours.
void CheckAnswer(const Updates& updates, const Gram& gram) {
  for (size_t i = 0; i < 8; ++i) {
    const size_t a = i % updates.values.size();
    const size_t b = i * i * 31 % updates.values.size();
    const double expected =
        SquaredDistancesReference({updates.values[a], updates.values[b]})[0][1];
    KOINON_CHECK(std::fabs(gram.SquaredDistance(a, b) - expected) <=
                 1e-5 * expected);
  }
}

// Arguments: instruction set, updates, parameters, threads.
void BM_Gram(benchmark::State& state) {
  const auto set = static_cast<InstructionSet>(state.range(0));
  const auto n = static_cast<size_t>(state.range(1));
  const auto elements = static_cast<size_t>(state.range(2));
  if (!ResolveInstructionSet(set).ok()) {
    state.SkipWithError("this processor lacks the instruction set");
    return;
  }
  const Updates updates(n, elements);
  auto layout = ModelLayout::Create({{"p", DType::kF32, {state.range(2)}}});
  KOINON_CHECK(layout.ok());
  ThreadPool pool(static_cast<int>(state.range(3)));
  const auto compute = [&] {
    auto gram = ComputeGram(*layout, updates.rows, nullptr, set, &pool);
    KOINON_CHECK(gram.ok());
    return *std::move(gram);
  };
  CheckAnswer(updates, compute());
  const double peak = PeakFlops(set, &pool);
  const double bandwidth = ReadBandwidth(updates.values, &pool);
  double best = 1e9;
  for (auto _ : state) {
    best = std::min(best, Seconds([&] {
                      benchmark::DoNotOptimize(compute().products.data());
                    }));
  }
  const double flops = static_cast<double>(n) * static_cast<double>(n + 1) *
                       static_cast<double>(elements) / best;
  const double bytes = 4.0 * static_cast<double>(n * elements) / best;
  state.counters["best_ms"] = best * 1e3;
  state.counters["GFLOP/s"] = flops / 1e9;
  state.counters["of_peak"] = flops / peak;
  state.counters["peak"] = peak / 1e9;
  state.counters["GB/s"] = bytes / 1e9;
  state.counters["of_reading"] = bytes / bandwidth;
  state.SetLabel(std::string(InstructionSetName(set)));
}
BENCHMARK(BM_Gram)
    ->ArgNames({"instruction_set", "updates", "parameters", "threads"})
    ->ArgsProduct({{1}, {5, 10, 16, 32, 64, 100}, {1'000'000}, {1, 2}})
    ->ArgsProduct({{1}, {1000}, {100'000}, {1, 2}})
    ->ArgsProduct({{2}, {10, 100}, {1'000'000}, {1}})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace koinon::aggregation

BENCHMARK_MAIN();
