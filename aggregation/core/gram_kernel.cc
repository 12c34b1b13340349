#include "aggregation/core/gram_kernel.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#if !defined(__clang__)
// GCC 12 reports the placeholders in its own <immintrin.h>.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#endif

namespace koinon::aggregation {
namespace {

constexpr uint32_t kMagnitude = 0x7fffffff;

// Runs `whole` over the whole steps of a row, and over the last one padded.
template <typename Whole>
inline uint32_t PackWithTail(const GramRow& row, Whole whole) {
  const size_t steps = row.count / kGramLanes;
  const uint32_t largest = whole(row, steps);
  const size_t done = steps * kGramLanes;
  if (done == row.count) return largest;
  float x[kGramLanes] = {};
  float centre[kGramLanes] = {};
  std::copy(row.x + done, row.x + row.count, x);
  std::copy(row.centre + done, row.centre + row.count, centre);
  GramRow tail = row;
  tail.x = x;
  tail.centre = centre;
  tail.packed += done * row.rows;
  return std::max(largest, whole(tail, 1));
}

// --- What every processor has ---------------------------------------------

uint32_t PackStepsPortable(const GramRow& row, size_t steps) {
  int32_t largest[kGramLanes] = {};
  for (size_t s = 0; s < steps; ++s) {
    for (size_t l = 0; l < kGramLanes; ++l) {
      const size_t j = s * kGramLanes + l;
      const float y = row.x[j] - row.centre[j];
      row.packed[s * row.rows * kGramLanes + l] = y;
      const auto bits =
          static_cast<int32_t>(std::bit_cast<uint32_t>(y) & kMagnitude);
      largest[l] = largest[l] > bits ? largest[l] : bits;
    }
  }
  return static_cast<uint32_t>(
      *std::max_element(largest, largest + kGramLanes));
}

// Rounded once. In double the product is exact; the sum is rounded to odd, so
// that rounding it again, to fp32, gives what one rounding would (Boldo and
// Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms
// using rounding to odd", 2008). Ten operations that any compiler vectorises
// beat the library's function, which many processors have to be emulated by.
inline float FusedMultiplyAdd(float a, float b, float c) {
#if defined(__FP_FAST_FMAF)
  return std::fma(a, b, c);
#else
  const double product = static_cast<double>(a) * static_cast<double>(b);
  const double addend = c;
  const double sum = product + addend;
  const double part = sum - product;
  const double error = (product - (sum - part)) + (addend - part);
  const auto bits = std::bit_cast<uint64_t>(sum);
  const auto error_bits = std::bit_cast<uint64_t>(error);
  // Towards the error's sign, if there is an error and the sum is even.
  const uint64_t inexact = error != 0 ? 1 : 0;
  const uint64_t moves = inexact & ~bits;
  const uint64_t away = 1 - 2 * ((bits ^ error_bits) >> 63);
  return static_cast<float>(std::bit_cast<double>(bits + (away & (0 - moves))));
#endif
}

inline float SumLanes(const float* lanes) {
  float half[8];
  for (size_t l = 0; l < 8; ++l) half[l] = lanes[l] + lanes[l + 8];
  for (size_t l = 0; l < 4; ++l) half[l] += half[l + 4];
  return (half[0] + half[2]) + (half[1] + half[3]);
}

inline void AddProduct(const GramTile& t, size_t r, size_t c, float dot) {
  const size_t at = r * t.rows_b + c;
  const double product = dot;
  t.sums[at] += t.factors == nullptr ? product : product * t.factors[at];
}

void DotsPortable(const GramTile& t) {
  for (size_t r = 0; r < t.rows_a; ++r) {
    const size_t columns = t.a == t.b ? r + 1 : t.rows_b;
    for (size_t c = 0; c < columns; ++c) {
      float lanes[kGramLanes] = {};
      for (size_t s = 0; s < t.steps; ++s) {
        const float* a = t.a + (s * t.rows_a + r) * kGramLanes;
        const float* b = t.b + (s * t.rows_b + c) * kGramLanes;
        for (size_t l = 0; l < kGramLanes; ++l) {
          lanes[l] = FusedMultiplyAdd(a[l], b[l], lanes[l]);
        }
      }
      AddProduct(t, r, c, SumLanes(lanes));
    }
  }
}

uint32_t PackPortable(const GramRow& row) {
  return PackWithTail(row, PackStepsPortable);
}

#if defined(__x86_64__)

#define KOINON_AVX512 \
  __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl")))
#define KOINON_FETCH(address) \
  _mm_prefetch(reinterpret_cast<const char*>(address), _MM_HINT_T1)
#define KOINON_AVX2 __attribute__((target("avx2,fma")))

// --- AVX2 --------------------------------------------------------------------

KOINON_AVX2 uint32_t PackStepsAvx2(const GramRow& row, size_t steps) {
  const __m256i magnitude = _mm256_set1_epi32(static_cast<int>(kMagnitude));
  __m256i largest = _mm256_setzero_si256();
  for (size_t s = 0; s < steps; ++s) {
    for (size_t h = 0; h < kGramLanes; h += 8) {
      const size_t j = s * kGramLanes + h;
      const __m256 y = _mm256_sub_ps(_mm256_loadu_ps(row.x + j),
                                     _mm256_loadu_ps(row.centre + j));
      _mm256_store_ps(row.packed + s * row.rows * kGramLanes + h, y);
      largest = _mm256_max_epu32(
          largest, _mm256_and_si256(_mm256_castps_si256(y), magnitude));
    }
  }
  alignas(32) uint32_t lanes[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), largest);
  return *std::max_element(lanes, lanes + 8);
}

uint32_t PackAvx2(const GramRow& row) {
  return PackWithTail(row, PackStepsAvx2);
}

// Half of the lanes of R rows against C rows from row `c` on: as many chains
// as 16 registers hold.
template <size_t R, size_t C>
KOINON_AVX2 void HalfDotsAvx2(const GramTile& t, size_t c, size_t half,
                              float* lanes) {
  const float* a = t.a + half;
  const float* b = t.b + c * kGramLanes + half;
  __m256 dots[R][C];
#pragma GCC unroll 5
  for (size_t r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (size_t k = 0; k < C; ++k) dots[r][k] = _mm256_setzero_ps();
  }
  for (size_t s = 0; s < t.steps; ++s) {
    __m256 columns[C];
#pragma GCC unroll 2
    for (size_t k = 0; k < C; ++k) {
      columns[k] = _mm256_load_ps(b + k * kGramLanes);
    }
#pragma GCC unroll 5
    for (size_t r = 0; r < R; ++r) {
      const __m256 row = _mm256_load_ps(a + r * kGramLanes);
#pragma GCC unroll 2
      for (size_t k = 0; k < C; ++k) {
        dots[r][k] = _mm256_fmadd_ps(row, columns[k], dots[r][k]);
      }
    }
    a += R * kGramLanes;
    b += t.rows_b * kGramLanes;
  }
#pragma GCC unroll 5
  for (size_t r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (size_t k = 0; k < C; ++k) {
      _mm256_store_ps(lanes + (r * 2 + k) * kGramLanes + half, dots[r][k]);
    }
  }
}

template <size_t R>
void DotsOfRowsAvx2(const GramTile& t) {
  for (size_t c = 0; c < t.rows_b; c += 2) {
    alignas(32) float lanes[R * 2 * kGramLanes];
    const size_t columns = std::min<size_t>(2, t.rows_b - c);
    for (size_t half : {size_t{0}, size_t{8}}) {
      if (columns == 2) {
        HalfDotsAvx2<R, 2>(t, c, half, lanes);
      } else {
        HalfDotsAvx2<R, 1>(t, c, half, lanes);
      }
    }
    for (size_t r = 0; r < R; ++r) {
      for (size_t k = 0; k < columns; ++k) {
        if (t.a == t.b && c + k > r) continue;
        AddProduct(t, r, c + k, SumLanes(lanes + (r * 2 + k) * kGramLanes));
      }
    }
  }
}

void DotsAvx2(const GramTile& t) {
  static constexpr GramDots kOfRows[] = {DotsOfRowsAvx2<1>, DotsOfRowsAvx2<2>,
                                         DotsOfRowsAvx2<3>, DotsOfRowsAvx2<4>,
                                         DotsOfRowsAvx2<5>};
  kOfRows[t.rows_a - 1](t);
}

// --- AVX-512 -----------------------------------------------------------------

KOINON_AVX512 uint32_t PackStepsAvx512(const GramRow& row, size_t steps) {
  const float* const x = row.x;
  const float* const centre = row.centre;
  float* packed = row.packed;
  const __m512i magnitude = _mm512_set1_epi32(static_cast<int>(kMagnitude));
  __m512i largest = _mm512_setzero_si512();
  for (size_t s = 0; s < steps; ++s) {
    const size_t j = s * kGramLanes;
    const __m512 y =
        _mm512_sub_ps(_mm512_loadu_ps(x + j), _mm512_loadu_ps(centre + j));
    _mm512_store_ps(packed, y);
    packed += row.rows * kGramLanes;
    if (s % 4 == 0) KOINON_FETCH(row.ahead + s / 4 * kGramLanes);
    largest = _mm512_max_epu32(
        largest, _mm512_and_si512(_mm512_castps_si512(y), magnitude));
  }
  return _mm512_reduce_max_epu32(largest);
}

uint32_t PackAvx512(const GramRow& row) {
  return PackWithTail(row, PackStepsAvx512);
}

// Lane k of the result is the sum of the lanes of v[k]. Each level adds two
// halves of each of two vectors: one shuffle brings together what has to be
// added to what stays where it is.
KOINON_AVX512 inline __m512 SumLanesOf16(const __m512* v) {
  // [a.low | b.high] + [a.high | b.low]
  const __m512i swap_pairs = _mm512_setr_epi64(2, 3, 8, 9, 6, 7, 12, 13);
  __m512 eight[8];
#pragma GCC unroll 8
  for (size_t k = 0; k < 8; ++k) {
    const __m512 a = v[k];
    const __m512 b = v[k + 8];
    eight[k] = _mm512_add_ps(_mm512_mask_blend_ps(0xff00, a, b),
                             _mm512_shuffle_f32x4(a, b, 0x4e));
  }
  __m512 four[4];
#pragma GCC unroll 4
  for (size_t k = 0; k < 4; ++k) {
    const __m512 a = eight[k];
    const __m512 b = eight[k + 4];
    four[k] = _mm512_add_ps(
        _mm512_mask_blend_ps(0xf0f0, a, b),
        _mm512_castpd_ps(_mm512_permutex2var_pd(_mm512_castps_pd(a), swap_pairs,
                                                _mm512_castps_pd(b))));
  }
  __m512 two[2];
#pragma GCC unroll 2
  for (size_t k = 0; k < 2; ++k) {
    const __m512 a = four[k];
    const __m512 b = four[k + 2];
    two[k] =
        _mm512_add_ps(_mm512_mask_blend_ps(0xcccc, a, b),
                      _mm512_castpd_ps(_mm512_shuffle_pd(
                          _mm512_castps_pd(a), _mm512_castps_pd(b), 0x55)));
  }
  const __m512 sums = _mm512_add_ps(_mm512_shuffle_ps(two[0], two[1], 0x88),
                                    _mm512_shuffle_ps(two[0], two[1], 0xdd));
  // Where the sum of v[k] is by now.
  const __m512i order =
      _mm512_setr_epi32(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15);
  return _mm512_permutexvar_ps(order, sums);
}

KOINON_AVX512 inline void AddProductsOf8(__m256 dots, double* sums,
                                         const double* factors) {
  __m512d products = _mm512_cvtps_pd(dots);
  if (factors != nullptr) {
    products = _mm512_mul_pd(products, _mm512_loadu_pd(factors));
  }
  _mm512_store_pd(sums, _mm512_add_pd(_mm512_load_pd(sums), products));
}

// kTriangle: b is a, and only products of a row with itself and earlier ones
// are wanted.
template <size_t R, size_t C, bool kTriangle>
KOINON_AVX512 void DotsOfAvx512(const GramTile& t) {
  const float* a = t.a;
  const float* b = t.b;
  constexpr size_t kRounded = R * C <= 16 ? 16 : 32;
  __m512 dots[kRounded];
#pragma GCC unroll 32
  for (size_t k = 0; k < kRounded; ++k) dots[k] = _mm512_setzero_ps();
  constexpr size_t kFetchSteps = kGramFetch / kGramLanes;
  for (size_t first = 0; first < t.steps; first += kFetchSteps) {
    const float* ahead = t.ahead[first / kFetchSteps];
    const size_t end = std::min(t.steps, first + kFetchSteps);
    for (size_t s = first; s < end; ++s) {
      __m512 columns[C];
#pragma GCC unroll 5
      for (size_t c = 0; c < C; ++c) {
        columns[c] = _mm512_load_ps(b + c * kGramLanes);
      }
      KOINON_FETCH(ahead);
      ahead += kGramLanes;
#pragma GCC unroll 5
      for (size_t r = 0; r < R; ++r) {
        const __m512 row =
            kTriangle ? columns[r] : _mm512_load_ps(a + r * kGramLanes);
#pragma GCC unroll 5
        for (size_t c = 0; c < C; ++c) {
          if (kTriangle && c > r) continue;
          dots[r * C + c] = _mm512_fmadd_ps(row, columns[c], dots[r * C + c]);
        }
      }
      a += R * kGramLanes;
      b += C * kGramLanes;
    }
  }
#pragma GCC unroll 2
  for (size_t k = 0; k < kRounded; k += 16) {
    const __m512 sums = SumLanesOf16(dots + k);
    const double* factors = t.factors == nullptr ? nullptr : t.factors + k;
    AddProductsOf8(_mm512_castps512_ps256(sums), t.sums + k, factors);
    if (k + 8 >= R * C) break;
    AddProductsOf8(_mm512_extractf32x8_ps(sums, 1), t.sums + k + 8,
                   factors == nullptr ? nullptr : factors + 8);
  }
}

template <size_t R, size_t... kC>
void DotsOfRowsAvx512(const GramTile& t, std::index_sequence<kC...>) {
  if (t.a == t.b) return DotsOfAvx512<R, R, true>(t);
  static constexpr GramDots kOf[] = {DotsOfAvx512<R, kC + 1, false>...};
  kOf[t.rows_b - 1](t);
}

void DotsAvx512(const GramTile& t) {
  constexpr auto kAll = std::make_index_sequence<kGramGroup>();
  switch (t.rows_a) {
    case 1:
      return DotsOfRowsAvx512<1>(t, kAll);
    case 2:
      return DotsOfRowsAvx512<2>(t, kAll);
    case 3:
      return DotsOfRowsAvx512<3>(t, kAll);
    case 4:
      return DotsOfRowsAvx512<4>(t, kAll);
    default:
      return DotsOfRowsAvx512<5>(t, kAll);
  }
}

#endif  // defined(__x86_64__)

}  // namespace

GramKernel GramKernelOf(InstructionSet set) {
  switch (set) {
#if defined(__x86_64__)
    case InstructionSet::kAvx512:
      return {PackAvx512, DotsAvx512};
    case InstructionSet::kAvx2:
      return {PackAvx2, DotsAvx2};
#endif
    default:
      return {PackPortable, DotsPortable};
  }
}

#if defined(__x86_64__)
FlushSubnormals::FlushSubnormals() : saved_(_mm_getcsr()) {
  constexpr unsigned int kResultsAndOperands = 0x8040;
  _mm_setcsr(saved_ | kResultsAndOperands);
}
FlushSubnormals::~FlushSubnormals() { _mm_setcsr(saved_); }
#else
FlushSubnormals::FlushSubnormals() : saved_(0) {}
FlushSubnormals::~FlushSubnormals() {}
#endif

}  // namespace koinon::aggregation
