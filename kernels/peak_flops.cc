#include "kernels/peak_flops.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

#include "kernels/bfloat16.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace koinon::kernels {
namespace {

// Enough chains to cover latency times throughput of any core so far (4 x 2),
// few enough to stay in registers.
constexpr int kChains = 12;
constexpr int64_t kBlock = 20'000;  // iterations between looks at the clock

// Each runs kBlock iterations of kChains multiply-adds on vectors; the result
// must be used, or the compiler leaves the work out.
#if defined(__x86_64__)
__attribute__((target("avx512f"))) float RunAvx512() {
  __m512 sums[kChains];
  for (auto& sum : sums) sum = _mm512_set1_ps(1.0f);
  const __m512 factor = _mm512_set1_ps(0.9999f);
  for (int64_t i = 0; i < kBlock; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) {
      sums[c] = _mm512_fmadd_ps(sums[c], factor, factor);
    }
  }
  float total = 0;
  for (const auto& sum : sums) total += _mm512_cvtss_f32(sum);
  return total;
}

// A pair's two products are added up in one instruction.
__attribute__((target("avx512f,avx512bf16"))) float RunBfloat16() {
  __m512 sums[kChains];
  for (auto& sum : sums) sum = _mm512_set1_ps(1.0f);
  // 1.0 in each half.
  const __m512bh factor = (__m512bh)_mm512_set1_epi32(0x3f803f80);
  for (int64_t i = 0; i < kBlock; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) {
      sums[c] = _mm512_dpbf16_ps(sums[c], factor, factor);
    }
  }
  float total = 0;
  for (const auto& sum : sums) total += _mm512_cvtss_f32(sum);
  return total;
}

__attribute__((target("avx2,fma"))) float RunAvx2() {
  __m256 sums[kChains];
  for (auto& sum : sums) sum = _mm256_set1_ps(1.0f);
  const __m256 factor = _mm256_set1_ps(0.9999f);
  for (int64_t i = 0; i < kBlock; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) {
      sums[c] = _mm256_fmadd_ps(sums[c], factor, factor);
    }
  }
  float total = 0;
  for (const auto& sum : sums) total += _mm256_cvtss_f32(sum);
  return total;
}
#endif

// Four lanes that the compiler may put into one register of the base
// instruction set.
float RunPlain() {
  constexpr int kLanes = 4;
  float sums[kChains][kLanes];
  for (auto& sum : sums) {
    for (float& lane : sum) lane = 1.0f;
  }
  for (int64_t i = 0; i < kBlock; ++i) {
    for (auto& sum : sums) {
      for (float& lane : sum) lane = lane * 0.9999f + 0.9999f;
    }
  }
  float total = 0;
  for (const auto& sum : sums) total += sum[0];
  return total;
}

struct Kernel {
  float (*run)();
  int lanes;  // multiply-adds of one instruction
};

Kernel WidestKernel() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return {RunAvx512, 16};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return {RunAvx2, 8};
  }
#endif
  return {RunPlain, 4};
}

double MeasureKernel(const Kernel& kernel, int threads, absl::Duration length) {
  using SteadyClock = std::chrono::steady_clock;
  std::atomic<int64_t> blocks{0};
  std::atomic<float> used{0};
  const auto start = SteadyClock::now();
  const auto end = start + absl::ToChronoNanoseconds(length);
  const auto work = [&] {
    int64_t done = 0;
    float total = 0;
    do {
      total += kernel.run();
      ++done;
    } while (SteadyClock::now() < end);
    blocks += done;
    used = total;
  };
  std::vector<std::thread> others;
  for (int t = 1; t < threads; ++t) others.emplace_back(work);
  work();
  for (std::thread& other : others) other.join();
  const double seconds =
      std::chrono::duration<double>(SteadyClock::now() - start).count();
  return static_cast<double>(blocks) * kBlock * kChains * kernel.lanes * 2 /
         seconds;
}

}  // namespace

double MeasurePeakFlops(int threads, absl::Duration length, bool bfloat16) {
  double peak = 0;
#if defined(__x86_64__)
  if (bfloat16 && HasBfloat16()) {
    length /= 2;
    peak = MeasureKernel({RunBfloat16, 32}, threads, length);
  }
#endif
  return std::max(peak, MeasureKernel(WidestKernel(), threads, length));
}

}  // namespace koinon::kernels
