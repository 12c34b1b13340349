#include "aggregation/core/column_kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <utility>
#include <vector>

#if !defined(__clang__)
// GCC 12 reports the placeholders in its own <immintrin.h>.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#define KOINON_KERNEL \
  __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,fma")))
#define KOINON_OPERATION KOINON_KERNEL inline __attribute__((always_inline))

namespace koinon::aggregation {
namespace {

constexpr size_t kLanes = 16;

// Compared as floats: VRANGEPS takes -0 to be less than 0, as the keys do, and
// two ports have it where integers' minimum has one.
using Lanes = __m512;
using Keys = __m512i;
using Bad = __mmask16;

KOINON_OPERATION Lanes LoadRow(const float* row) {
  return _mm512_loadu_ps(row);
}
KOINON_OPERATION void CheckFinite(Lanes values, Bad* bad) {
  constexpr int kNotFinite = 0x99;  // quiet and signalling NaN, +inf, -inf
  *bad |= _mm512_fpclass_ps_mask(values, kNotFinite);
}
KOINON_OPERATION bool AnyBad(Bad bad) { return bad != 0; }
KOINON_OPERATION Lanes ToOrder(Lanes values) { return values; }
KOINON_OPERATION Lanes FromOrder(Lanes values) { return values; }
KOINON_OPERATION Lanes Load(const float* from) { return _mm512_load_ps(from); }
KOINON_OPERATION void Store(float* to, Lanes values) {
  _mm512_store_ps(to, values);
}
KOINON_OPERATION Lanes Least(Lanes a, Lanes b) {
  return _mm512_range_ps(a, b, 4);
}
KOINON_OPERATION Lanes Greatest(Lanes a, Lanes b) {
  return _mm512_range_ps(a, b, 5);
}
KOINON_OPERATION Keys KeysOf(Lanes values) {
  const __m512i bits = _mm512_castps_si512(values);
  return _mm512_xor_si512(bits,
                          _mm512_srli_epi32(_mm512_srai_epi32(bits, 31), 1));
}
KOINON_OPERATION Keys AllKeys(int32_t key) { return _mm512_set1_epi32(key); }
KOINON_OPERATION Keys Minus(Keys a, Keys b) { return _mm512_sub_epi32(a, b); }
KOINON_OPERATION Keys LoadKeys(const int32_t* from) {
  return _mm512_load_si512(from);
}
KOINON_OPERATION void StoreKeys(int32_t* to, Keys keys) {
  _mm512_store_si512(to, keys);
}
KOINON_OPERATION Keys CountGreater(Keys count, Keys keys, Keys than) {
  return _mm512_mask_sub_epi32(count, _mm512_cmpgt_epi32_mask(keys, than),
                               count, _mm512_set1_epi32(-1));
}
KOINON_OPERATION Keys GreatestUpTo(Keys greatest, Keys keys, Keys top) {
  return _mm512_mask_max_epi32(greatest, _mm512_cmple_epi32_mask(keys, top),
                               greatest, keys);
}
KOINON_OPERATION Keys LeastAbove(Keys least, Keys keys, Keys below) {
  return _mm512_mask_min_epi32(least, _mm512_cmpgt_epi32_mask(keys, below),
                               least, keys);
}
struct Sums {
  __m512d low, high;
};
KOINON_OPERATION Sums NoSums() {
  return {_mm512_setzero_pd(), _mm512_setzero_pd()};
}
KOINON_OPERATION void StoreSums(double* to, Sums sums) {
  _mm512_store_pd(to, sums.low);
  _mm512_store_pd(to + 8, sums.high);
}
KOINON_OPERATION void AddUpTo(Sums* sums, Keys keys, Keys most, double x) {
  const __mmask16 mask = _mm512_cmple_epi32_mask(keys, most);
  const __m512d term = _mm512_set1_pd(x);
  sums->low = _mm512_mask_add_pd(sums->low, static_cast<__mmask8>(mask),
                                 sums->low, term);
  sums->high = _mm512_mask_add_pd(sums->high, static_cast<__mmask8>(mask >> 8),
                                  sums->high, term);
}
KOINON_OPERATION void AddBetween(Sums* sums, Keys keys, Keys low, Keys high) {
  const __mmask16 mask = _mm512_mask_cmplt_epi32_mask(
      _mm512_cmpgt_epi32_mask(keys, low), keys, high);
  const __m512i bits = KeysOf(_mm512_castsi512_ps(keys));
  const __m512d x =
      _mm512_cvtps_pd(_mm256_castsi256_ps(_mm512_castsi512_si256(bits)));
  const __m512d y =
      _mm512_cvtps_pd(_mm256_castsi256_ps(_mm512_extracti64x4_epi64(bits, 1)));
  sums->low =
      _mm512_mask_add_pd(sums->low, static_cast<__mmask8>(mask), sums->low, x);
  sums->high = _mm512_mask_add_pd(sums->high, static_cast<__mmask8>(mask >> 8),
                                  sums->high, y);
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

KOINON_KERNEL bool ReduceColumnsAvx512(const ColumnProgram& program,
                                       const ColumnBlock& block,
                                       float* scratch) {
  return ReduceBlock(program, block, scratch);
}

}  // namespace koinon::aggregation

#endif  // defined(__x86_64__)
