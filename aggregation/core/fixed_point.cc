#include "aggregation/core/fixed_point.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "aggregation/core/fold.h"
#include "base/check.h"

#if defined(__x86_64__)
#include <immintrin.h>
#if !defined(__clang__)
// GCC 12 reports the placeholders in its own <immintrin.h>.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#endif

namespace koinon::aggregation {
namespace {

constexpr double kDefaultRange = 16;
constexpr double kDefaultTotalWeight = 0x1p32;
constexpr double kDefaultUniformTotal = 0x1p20;
constexpr int kMinBits = -62;
constexpr int kMaxBits = 60;

// Sums of one tile stay in the nearest cache while all terms are added to them,
// as many at a time as the processor prefetches streams.
constexpr size_t kTile = 2048;
constexpr uint32_t kMagnitude = 0x7fffffff;

// Adding 1.5 2^52 to a double below 2^51 in magnitude leaves its nearest
// integer, half to even, in the low bits.
constexpr double kMagic = 0x1.8p52;
constexpr auto kMagicBits = std::bit_cast<uint64_t>(kMagic);

// The nearest integer, half to even, of |v| <= 2^62: the multiple of 2^32
// nearest to v, which is even, and what is left. No step but the two additions
// of kMagic rounds.
uint64_t RoundToInteger(double v) {
  const double high = v * 0x1p-32 + kMagic;
  const double low = v - (high - kMagic) * 0x1p32 + kMagic;
  return (std::bit_cast<uint64_t>(high) << 32) + std::bit_cast<uint64_t>(low) -
         ((kMagicBits << 32) + kMagicBits);
}

// What the loops below work on: columns [begin, end) of a tile.
struct Tile {
  const FixedPointTerm* terms;  // [n]
  const double* scaled;         // [n], weight * 2^bits
  size_t n;
  uint32_t limit;
  int64_t* sums;
  size_t begin, end;
};

// False if a value was beyond the limit.
bool AddPortable(const Tile& t) {
  uint32_t beyond = 0;
  for (size_t i = 0; i < t.n; ++i) {
    const float* const values = t.terms[i].values;
    const double scaled = t.scaled[i];
    for (size_t j = t.begin; j < t.end; ++j) {
      const float x = values[j];
      beyond |= t.limit - (std::bit_cast<uint32_t>(x) & kMagnitude);
      // Unsigned: sums of what is beyond the range may wrap around.
      t.sums[j] = static_cast<int64_t>(static_cast<uint64_t>(t.sums[j]) +
                                       RoundToInteger(scaled * x));
    }
  }
  return (beyond & ~kMagnitude) == 0;
}

#if defined(__x86_64__)

__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl"))) bool AddAvx512(
    const Tile& t) {
  constexpr size_t kStep = 32;
  const __m512i magnitude = _mm512_set1_epi32(kMagnitude);
  const __m512i limit = _mm512_set1_epi32(static_cast<int>(t.limit));
  __mmask16 beyond = 0;
  size_t j = t.begin;
  for (; j + kStep <= t.end; j += kStep) {
    __m512i s0 = _mm512_loadu_si512(t.sums + j);
    __m512i s1 = _mm512_loadu_si512(t.sums + j + 8);
    __m512i s2 = _mm512_loadu_si512(t.sums + j + 16);
    __m512i s3 = _mm512_loadu_si512(t.sums + j + 24);
    for (size_t i = 0; i < t.n; ++i) {
      const float* const x = t.terms[i].values + j;
      const __m512d scaled = _mm512_set1_pd(t.scaled[i]);
      beyond |= _mm512_cmpgt_epi32_mask(
          _mm512_and_si512(_mm512_loadu_si512(x), magnitude), limit);
      beyond |= _mm512_cmpgt_epi32_mask(
          _mm512_and_si512(_mm512_loadu_si512(x + 16), magnitude), limit);
      const auto term = [&](const float* from) __attribute__((
          target("avx512f,avx512dq,avx512bw,avx512vl"), always_inline)) {
        return _mm512_cvt_roundpd_epi64(
            _mm512_mul_pd(scaled, _mm512_cvtps_pd(_mm256_loadu_ps(from))),
            _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
      };
      s0 = _mm512_add_epi64(s0, term(x));
      s1 = _mm512_add_epi64(s1, term(x + 8));
      s2 = _mm512_add_epi64(s2, term(x + 16));
      s3 = _mm512_add_epi64(s3, term(x + 24));
    }
    _mm512_storeu_si512(t.sums + j, s0);
    _mm512_storeu_si512(t.sums + j + 8, s1);
    _mm512_storeu_si512(t.sums + j + 16, s2);
    _mm512_storeu_si512(t.sums + j + 24, s3);
  }
  Tile rest = t;
  rest.begin = j;
  return AddPortable(rest) && beyond == 0;
}

// As RoundToInteger.
__attribute__((target("avx2,fma"))) inline __m256i Round256(__m256d v) {
  const __m256d magic = _mm256_set1_pd(kMagic);
  const __m256d high = _mm256_fmadd_pd(v, _mm256_set1_pd(0x1p-32), magic);
  const __m256d left =
      _mm256_fnmadd_pd(_mm256_sub_pd(high, magic), _mm256_set1_pd(0x1p32), v);
  const __m256d low = _mm256_add_pd(left, magic);
  const __m256i bias =
      _mm256_set1_epi64x(static_cast<int64_t>((kMagicBits << 32) + kMagicBits));
  return _mm256_sub_epi64(
      _mm256_add_epi64(_mm256_slli_epi64(_mm256_castpd_si256(high), 32),
                       _mm256_castpd_si256(low)),
      bias);
}

__attribute__((target("avx2,fma"))) bool AddAvx2(const Tile& t) {
  constexpr size_t kStep = 16;
  const __m256i magnitude = _mm256_set1_epi32(kMagnitude);
  const __m256i limit = _mm256_set1_epi32(static_cast<int>(t.limit));
  __m256i beyond = _mm256_setzero_si256();
  size_t j = t.begin;
  for (; j + kStep <= t.end; j += kStep) {
    __m256i sums[4];
    auto* const at = reinterpret_cast<__m256i*>(t.sums + j);
    for (int k = 0; k < 4; ++k) sums[k] = _mm256_loadu_si256(at + k);
    for (size_t i = 0; i < t.n; ++i) {
      const float* const x = t.terms[i].values + j;
      const __m256d scaled = _mm256_set1_pd(t.scaled[i]);
      for (int k = 0; k < 2; ++k) {
        const __m256i bits = _mm256_and_si256(
            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + 8 * k)),
            magnitude);
        beyond = _mm256_or_si256(beyond, _mm256_cmpgt_epi32(bits, limit));
      }
      for (int k = 0; k < 4; ++k) {
        const __m256d values = _mm256_cvtps_pd(_mm_loadu_ps(x + 4 * k));
        sums[k] =
            _mm256_add_epi64(sums[k], Round256(_mm256_mul_pd(scaled, values)));
      }
    }
    for (int k = 0; k < 4; ++k) _mm256_storeu_si256(at + k, sums[k]);
  }
  Tile rest = t;
  rest.begin = j;
  return AddPortable(rest) && _mm256_testz_si256(beyond, beyond) != 0;
}

#endif  // defined(__x86_64__)

using Add = bool (*)(const Tile&);

Add AddOf(InstructionSet set) {
#if defined(__x86_64__)
  if (set == InstructionSet::kAvx512) return AddAvx512;
  if (set == InstructionSet::kAvx2) return AddAvx2;
#endif
  KOINON_CHECK(set == InstructionSet::kPortable);
  return AddPortable;
}

FixedPointOutlier FirstBeyond(const Tile& t,
                              absl::Span<const FixedPointTerm> terms) {
  for (size_t j = t.begin; j < t.end; ++j) {
    for (size_t i = 0; i < terms.size(); ++i) {
      const float x = terms[i].values[j];
      if ((std::bit_cast<uint32_t>(x) & kMagnitude) > t.limit) {
        return {.term = i, .element = j, .value = x};
      }
    }
  }
  KOINON_CHECK(false);  // the loops above found one
  return {};
}

absl::Status CheckPositive(absl::string_view field, double value) {
  if (std::isfinite(value) && value > 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("aggregation.fedavg.fixed_point.%s is %g, expected a "
                      "finite number > 0 (0: the default)",
                      field, value));
}

}  // namespace

absl::StatusOr<FixedPoint> FixedPoint::Of(
    const v1::AggregationSpec::FedAvg& spec) {
  FixedPoint format;
  format.range = spec.fixed_point().range();
  format.total_weight = spec.fixed_point().total_weight();
  if (format.range == 0) format.range = kDefaultRange;
  if (format.total_weight == 0) {
    format.total_weight =
        spec.uniform() ? kDefaultUniformTotal : kDefaultTotalWeight;
  }
  absl::Status positive = CheckPositive("range", format.range);
  if (positive.ok()) {
    positive = CheckPositive("total_weight", format.total_weight);
  }
  if (!positive.ok()) return positive;
  // product = part 2^exponent with part in [1/2, 1): log2 without rounding.
  int exponent = 0;
  const double part = std::frexp(format.range * format.total_weight, &exponent);
  format.bits = part == 0.5 ? 63 - exponent : 62 - exponent;
  if (!std::isfinite(part) || part == 0 || format.bits < kMinBits ||
      format.bits > kMaxBits) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "aggregation.fedavg.fixed_point: range %g times total_weight %g is "
        "%g, expected %g to %g",
        format.range, format.total_weight, format.range * format.total_weight,
        std::ldexp(1.0, 62 - kMaxBits), std::ldexp(1.0, 62 - kMinBits)));
  }
  return format;
}

float FixedPoint::LargestValue() const {
  constexpr double kMax = std::numeric_limits<float>::max();
  const auto nearest = static_cast<float>(std::min(range, kMax));
  return nearest > range ? std::nextafter(nearest, 0.0f) : nearest;
}

double FixedPointWeight(double weight) {
  constexpr int kDropped = 53 - kWeightBits;
  auto bits = std::bit_cast<uint64_t>(weight);
  bits += uint64_t{1} << (kDropped - 1);  // may carry into the exponent: right
  bits &= ~((uint64_t{1} << kDropped) - 1);
  return std::bit_cast<double>(bits);
}

std::optional<FixedPointOutlier> AddFixedPoint(
    const FixedPoint& format, absl::Span<const FixedPointTerm> terms,
    absl::Span<int64_t> sums, InstructionSet instruction_set) {
  std::vector<double> scaled;
  scaled.reserve(terms.size());
  for (const FixedPointTerm& term : terms) {
    scaled.push_back(std::scalbn(term.weight, format.bits));
  }
  const Add add = AddOf(instruction_set);
  Tile tile{.terms = nullptr,
            .scaled = nullptr,
            .n = 0,
            // As floats without their signs are ordered like integers, and NaN
            // is above infinity, one comparison of integers finds all that must
            // not be added.
            .limit = std::bit_cast<uint32_t>(format.LargestValue()),
            .sums = sums.data(),
            .begin = 0,
            .end = 0};
  for (; tile.begin < sums.size(); tile.begin = tile.end) {
    tile.end = std::min(sums.size(), tile.begin + kTile);
    bool within = true;
    for (size_t first = 0; first < terms.size(); first += kMaxFoldRows) {
      tile.terms = terms.data() + first;
      tile.scaled = scaled.data() + first;
      tile.n = std::min(kMaxFoldRows, terms.size() - first);
      within &= add(tile);
    }
    if (!within) return FirstBeyond(tile, terms);
  }
  return std::nullopt;
}

void FixedPointMean(const FixedPoint& format, double total_weight,
                    absl::Span<const int64_t> sums, absl::Span<float> out) {
  KOINON_CHECK(sums.size() == out.size());
  const double divisor = std::scalbn(total_weight, format.bits);
  for (size_t j = 0; j < sums.size(); ++j) {
    out[j] = static_cast<float>(static_cast<double>(sums[j]) / divisor);
  }
}

absl::Status OutlierError(const FixedPoint& format, absl::string_view element,
                          float value) {
  return absl::InvalidArgumentError(
      absl::StrFormat("%s is %g, expected at most %g in magnitude "
                      "(aggregation.fedavg.fixed_point.range)",
                      element, value, format.range));
}

absl::Status TotalWeightError(const FixedPoint& format, double sum_of_weights) {
  return absl::FailedPreconditionError(absl::StrFormat(
      "the weights of the round's updates add up to %.17g, expected at most "
      "%.17g (aggregation.fedavg.fixed_point.total_weight)",
      sum_of_weights, format.total_weight));
}

}  // namespace koinon::aggregation
