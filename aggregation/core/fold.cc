#include "aggregation/core/fold.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#if !defined(__clang__)
// GCC 12 reports the placeholders in its own <immintrin.h>.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#endif

namespace koinon::aggregation {
namespace {

// Columns [begin, end) of the block. The inner loops are simple enough for any
// compiler to vectorise.
bool FoldPortable(const FoldBlock& b, size_t begin, size_t end) {
  constexpr size_t kColumns = 256;
  double sum[kColumns];
  double not_finite = 0;  // x - x is 0 for a finite x, else NaN
  for (size_t j = begin; j < end; j += kColumns) {
    const size_t count = std::min(kColumns, end - j);
    for (size_t c = 0; c < count; ++c) {
      // -0 is the neutral element: 0 would turn a sum of -0 into +0.
      sum[c] = b.first ? -0.0 : b.sum[j + c];
    }
    for (size_t i = 0; i < b.n; ++i) {
      const float* row = b.rows[i] + j;
      const double weight = b.weights[i];
      for (size_t c = 0; c < count; ++c) sum[c] += weight * row[c];
    }
    if (b.out == nullptr) {
      std::copy(sum, sum + count, b.sum + j);
      continue;
    }
    for (size_t c = 0; c < count; ++c) {
      b.out[j + c] = static_cast<float>(sum[c] * b.scale);
      not_finite += sum[c] - sum[c];
    }
  }
  return not_finite == 0;
}

bool FoldAllPortable(const FoldBlock& block) {
  return FoldPortable(block, 0, block.count);
}

#if defined(__x86_64__)

// Columns before the first at which `out` is aligned for streaming stores,
// which leave the cache to the inputs. Allocators align to as much; wider
// streaming stores would make every tile of theirs begin with an edge.
size_t Misaligned(const FoldBlock& b) {
  constexpr size_t kStreamBytes = 16;
  const size_t past = reinterpret_cast<uintptr_t>(b.out) % kStreamBytes;
  return past == 0 ? 0 : std::min(b.count, (kStreamBytes - past) / 4);
}

// Runs `wide` over whole steps of aligned columns, and the portable path over
// the edges.
template <size_t kStep, typename Wide>
bool FoldWithEdges(const FoldBlock& b, Wide wide) {
  const size_t begin = Misaligned(b);
  const size_t end = begin + (b.count - begin) / kStep * kStep;
  bool finite = FoldPortable(b, 0, begin);
  if (begin < end) finite &= wide(b, begin, end);
  finite &= FoldPortable(b, end, b.count);
  return finite;
}

// Into all caches: a hint that spares the outer ones (NTA) is a little faster
// on some processors, and on others throws lines away before they are used:
// measured at a quarter of the bandwidth on an Intel Xeon of 2023.
#define KOINON_FETCH(address) \
  _mm_prefetch(reinterpret_cast<const char*>(address), _MM_HINT_T0)

// Streams eight values to a place that is aligned for half of them.
__attribute__((target("avx"))) inline void Stream(float* to, __m256 values) {
  _mm_stream_ps(to, _mm256_castps256_ps128(values));
  _mm_stream_ps(to + 4, _mm256_extractf128_ps(values, 1));
}

// N rows are known to the compiler, so that it unrolls the loop over them and
// keeps their addresses and weights in registers.
template <size_t N, bool kFirst, bool kLast>
__attribute__((target("avx512f,avx512dq"))) bool FoldRows512(const FoldBlock& b,
                                                             size_t begin,
                                                             size_t end) {
  constexpr int kNotFinite = 0x99;  // quiet and signalling NaN, +inf, -inf
  const __m512d scale = _mm512_set1_pd(b.scale);
  __m512d weights[N];
  const float* rows[N];
  const float* ahead[N];
  for (size_t i = 0; i < N; ++i) {
    weights[i] = _mm512_set1_pd(b.weights[i]);
    rows[i] = b.rows[i];
    ahead[i] = b.ahead[i];
  }
  __mmask8 not_finite = 0;
  for (size_t j = begin; j < end; j += 16) {
    __m512d low = kFirst ? _mm512_set1_pd(-0.0) : _mm512_loadu_pd(b.sum + j);
    __m512d high =
        kFirst ? _mm512_set1_pd(-0.0) : _mm512_loadu_pd(b.sum + j + 8);
#pragma GCC unroll 16
    for (size_t i = 0; i < N; ++i) {
      const float* const x = rows[i] + j;
      KOINON_FETCH(ahead[i] + j);
      low =
          _mm512_fmadd_pd(weights[i], _mm512_cvtps_pd(_mm256_loadu_ps(x)), low);
      high = _mm512_fmadd_pd(weights[i],
                             _mm512_cvtps_pd(_mm256_loadu_ps(x + 8)), high);
    }
    if (!kLast) {
      _mm512_storeu_pd(b.sum + j, low);
      _mm512_storeu_pd(b.sum + j + 8, high);
      continue;
    }
    not_finite |= _mm512_fpclass_pd_mask(low, kNotFinite) |
                  _mm512_fpclass_pd_mask(high, kNotFinite);
    Stream(b.out + j, _mm512_cvtpd_ps(_mm512_mul_pd(low, scale)));
    Stream(b.out + j + 8, _mm512_cvtpd_ps(_mm512_mul_pd(high, scale)));
  }
  return not_finite == 0;
}

using Rows512 = bool (*)(const FoldBlock&, size_t, size_t);

template <bool kFirst, bool kLast, size_t... kN>
Rows512 ChooseRows512(size_t n, std::index_sequence<kN...>) {
  static constexpr Rows512 kTable[] = {FoldRows512<kN + 1, kFirst, kLast>...};
  return kTable[n - 1];
}

bool FoldWide512(const FoldBlock& b, size_t begin, size_t end) {
  constexpr auto kAll = std::make_index_sequence<kMaxFoldRows>();
  const bool last = b.out != nullptr;
  const Rows512 fold = b.first
                           ? (last ? ChooseRows512<true, true>(b.n, kAll)
                                   : ChooseRows512<true, false>(b.n, kAll))
                           : (last ? ChooseRows512<false, true>(b.n, kAll)
                                   : ChooseRows512<false, false>(b.n, kAll));
  return fold(b, begin, end);
}

__attribute__((target("avx2,fma"))) bool FoldWide256(const FoldBlock& b,
                                                     size_t begin, size_t end) {
  const __m256d scale = _mm256_set1_pd(b.scale);
  __m256d not_finite = _mm256_setzero_pd();
  for (size_t j = begin; j < end; j += 16) {
    __m256d s[4];
    for (int k = 0; k < 4; ++k) {
      s[k] =
          b.first ? _mm256_set1_pd(-0.0) : _mm256_loadu_pd(b.sum + j + 4 * k);
    }
    for (size_t i = 0; i < b.n; ++i) {
      const float* row = b.rows[i] + j;
      const __m256d weight = _mm256_set1_pd(b.weights[i]);
      KOINON_FETCH(b.ahead[i] + j);
      for (int k = 0; k < 4; ++k) {
        s[k] = _mm256_fmadd_pd(
            weight, _mm256_cvtps_pd(_mm_loadu_ps(row + 4 * k)), s[k]);
      }
    }
    if (b.out == nullptr) {
      for (int k = 0; k < 4; ++k) _mm256_storeu_pd(b.sum + j + 4 * k, s[k]);
      continue;
    }
    for (int k = 0; k < 4; ++k) {
      not_finite = _mm256_add_pd(not_finite, _mm256_sub_pd(s[k], s[k]));
      _mm_stream_ps(b.out + j + 4 * k,
                    _mm256_cvtpd_ps(_mm256_mul_pd(s[k], scale)));
    }
  }
  const __m256d bad =
      _mm256_cmp_pd(not_finite, _mm256_setzero_pd(), _CMP_NEQ_UQ);
  return _mm256_movemask_pd(bad) == 0;
}

#undef KOINON_FETCH

bool FoldAvx512(const FoldBlock& block) {
  return FoldWithEdges<16>(block, FoldWide512);
}

bool FoldAvx2(const FoldBlock& block) {
  return FoldWithEdges<16>(block, FoldWide256);
}

#endif  // defined(__x86_64__)

}  // namespace

void FinishFolds() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

Fold FoldOf(InstructionSet set) {
  switch (set) {
#if defined(__x86_64__)
    case InstructionSet::kAvx512:
      return FoldAvx512;
    case InstructionSet::kAvx2:
      return FoldAvx2;
#endif
    default:
      return FoldAllPortable;
  }
}

}  // namespace koinon::aggregation
