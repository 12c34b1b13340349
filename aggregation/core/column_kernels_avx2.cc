#include "aggregation/core/column_kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <utility>
#include <vector>

#define KOINON_KERNEL __attribute__((target("avx2,fma")))
#define KOINON_OPERATION KOINON_KERNEL inline __attribute__((always_inline))

namespace koinon::aggregation {
namespace {

constexpr size_t kLanes = 8;

// Compared as keys: MINPS gives back its second operand for two zeros, which
// would lose the sign of one.
using Lanes = __m256i;
using Keys = __m256i;
struct Bad {
  __m256i carries;
};

KOINON_OPERATION Lanes LoadRow(const float* row) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row));
}
// Adding one to an exponent of all ones carries into the sign.
KOINON_OPERATION void CheckFinite(Lanes values, Bad* bad) {
  const __m256i magnitude =
      _mm256_and_si256(values, _mm256_set1_epi32(0x7fffffff));
  bad->carries = _mm256_or_si256(
      bad->carries, _mm256_add_epi32(magnitude, _mm256_set1_epi32(0x00800000)));
}
KOINON_OPERATION bool AnyBad(Bad bad) {
  return _mm256_movemask_ps(_mm256_castsi256_ps(bad.carries)) != 0;
}
KOINON_OPERATION Keys KeysOf(Lanes bits) {
  return _mm256_xor_si256(bits,
                          _mm256_srli_epi32(_mm256_srai_epi32(bits, 31), 1));
}
KOINON_OPERATION Lanes ToOrder(Lanes values) { return KeysOf(values); }
KOINON_OPERATION Lanes FromOrder(Lanes keys) { return KeysOf(keys); }
KOINON_OPERATION Lanes Load(const float* from) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(from));
}
KOINON_OPERATION void Store(float* to, Lanes values) {
  _mm256_store_si256(reinterpret_cast<__m256i*>(to), values);
}
KOINON_OPERATION Lanes Least(Lanes a, Lanes b) {
  return _mm256_min_epi32(a, b);
}
KOINON_OPERATION Lanes Greatest(Lanes a, Lanes b) {
  return _mm256_max_epi32(a, b);
}
KOINON_OPERATION Keys AllKeys(int32_t key) { return _mm256_set1_epi32(key); }
KOINON_OPERATION Keys Minus(Keys a, Keys b) { return _mm256_sub_epi32(a, b); }
KOINON_OPERATION Keys LoadKeys(const int32_t* from) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(from));
}
KOINON_OPERATION void StoreKeys(int32_t* to, Keys keys) {
  _mm256_store_si256(reinterpret_cast<__m256i*>(to), keys);
}
KOINON_OPERATION Keys CountGreater(Keys count, Keys keys, Keys than) {
  return _mm256_sub_epi32(count, _mm256_cmpgt_epi32(keys, than));
}
KOINON_OPERATION Keys GreatestUpTo(Keys greatest, Keys keys, Keys top) {
  return _mm256_max_epi32(greatest,
                          _mm256_blendv_epi8(keys, AllKeys(INT32_MIN),
                                             _mm256_cmpgt_epi32(keys, top)));
}
KOINON_OPERATION Keys LeastAbove(Keys least, Keys keys, Keys below) {
  return _mm256_min_epi32(least,
                          _mm256_blendv_epi8(AllKeys(INT32_MAX), keys,
                                             _mm256_cmpgt_epi32(keys, below)));
}
struct Sums {
  __m256d low, high;
};
KOINON_OPERATION Sums NoSums() {
  return {_mm256_setzero_pd(), _mm256_setzero_pd()};
}
KOINON_OPERATION void StoreSums(double* to, Sums sums) {
  _mm256_store_pd(to, sums.low);
  _mm256_store_pd(to + 4, sums.high);
}
// Where a lane of `mask` (all ones or all zeros) is set; adds 0 elsewhere.
KOINON_OPERATION void AddMasked(Sums* sums, __m256i mask, __m256d x,
                                __m256d y) {
  const __m256i low = _mm256_cvtepi32_epi64(_mm256_castsi256_si128(mask));
  const __m256i high = _mm256_cvtepi32_epi64(_mm256_extracti128_si256(mask, 1));
  sums->low =
      _mm256_add_pd(sums->low, _mm256_and_pd(x, _mm256_castsi256_pd(low)));
  sums->high =
      _mm256_add_pd(sums->high, _mm256_and_pd(y, _mm256_castsi256_pd(high)));
}
KOINON_OPERATION void AddUpTo(Sums* sums, Keys keys, Keys most, double x) {
  const __m256i mask =
      _mm256_xor_si256(_mm256_cmpgt_epi32(keys, most), AllKeys(-1));
  AddMasked(sums, mask, _mm256_set1_pd(x), _mm256_set1_pd(x));
}
KOINON_OPERATION void AddBetween(Sums* sums, Keys keys, Keys low, Keys high) {
  const __m256i mask = _mm256_and_si256(_mm256_cmpgt_epi32(keys, low),
                                        _mm256_cmpgt_epi32(high, keys));
  const __m256 x = _mm256_castsi256_ps(KeysOf(keys));
  AddMasked(sums, mask, _mm256_cvtps_pd(_mm256_castps256_ps128(x)),
            _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)));
}
// Past the caches if that is possible: nobody here reads it again.
KOINON_OPERATION void StreamTo(float* to, const float* from, size_t count) {
  if (count % 4 != 0 || reinterpret_cast<uintptr_t>(to) % 16 != 0) {
    std::copy_n(from, count, to);
    return;
  }
  for (size_t c = 0; c < count; c += 4) {
    _mm_stream_ps(to + c, _mm_load_ps(from + c));
  }
}

}  // namespace
}  // namespace koinon::aggregation

#include "aggregation/core/column_kernels_body.h"

namespace koinon::aggregation {

KOINON_KERNEL bool ReduceColumnsAvx2(const ColumnProgram& program,
                                     const ColumnBlock& block, float* scratch) {
  return ReduceBlock(program, block, scratch);
}

}  // namespace koinon::aggregation

#endif  // defined(__x86_64__)
