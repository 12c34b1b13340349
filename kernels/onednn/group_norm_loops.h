#ifndef KOINON_KERNELS_ONEDNN_GROUP_NORM_LOOPS_H_
#define KOINON_KERNELS_ONEDNN_GROUP_NORM_LOOPS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "absl/base/casts.h"
#include "kernels/onednn/group_norm_kernel.h"
#include "kernels/onednn/rounding.h"

// What group_norm_kernel.cc does to the values of sixteen channels of one
// image. For use inside WithWidestVectors.
namespace koinon::kernels::onednn::group_norm_loops {

inline constexpr size_t kLanes = kGroupNormLanes;

// Loops over lanes are for the vectoriser, which comes too late where they have
// been unrolled: hence the pragmas.

inline float Widen(float value) { return value; }
// A bfloat16 is the upper half of a float.
inline float Widen(uint16_t value) {
  return absl::bit_cast<float>(uint32_t{value} << 16);
}
template <bool kRounds>
inline void Narrow(float value, float* to) {
  *to = kRounds ? NextBfloat16(value) : value;
}
// To the nearest, ties to even. What is no number stays none, unless its lower
// half alone said so: then it becomes an infinity.
template <bool kRounds>
inline void Narrow(float value, uint16_t* to) {
  const uint32_t bits = absl::bit_cast<uint32_t>(value);
  *to = static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// Calls body(first channel, offset of its first value within an example) for
// every sixteen channels.
template <typename Body>
inline void ForEachBlock(const GroupNormShape& shape, const Body& body) {
  for (size_t k = 0; k < shape.outer; ++k) {
    for (size_t lane = 0; lane < shape.inner; lane += kLanes) {
      body(k * shape.inner + lane, k * shape.spatial * shape.inner + lane);
    }
  }
}

// Images are many times as large as the cache next to the core, and processors
// stop fetching ahead where a page ends: that is done here, so many positions
// before they are needed. Behind an image's end, where there may be no memory,
// it does nothing.
inline constexpr size_t kAhead = 32;
template <typename Value>
inline void FetchToRead(const Value* from) {
  __builtin_prefetch(from, /*rw=*/0);
}
template <typename Value>
inline void FetchToWrite(Value* to) {
  __builtin_prefetch(to, /*rw=*/1);
}

// So many values are summed in single precision before the sum is widened.
inline constexpr size_t kChunk = 32;

// Calls add(s, a, b) for every position s, which adds to sixteen sums each in
// `a` and `b`.
template <typename Add>
inline void SumLanes(size_t count, const Add& add, double* first,
                     double* second) {
  double sum_a[kLanes] = {}, sum_b[kLanes] = {};
  for (size_t begin = 0; begin < count; begin += kChunk) {
    const size_t end = std::min(begin + kChunk, count);
    float a[kLanes] = {}, b[kLanes] = {};
    for (size_t s = begin; s < end; ++s) add(s, a, b);
    for (size_t lane = 0; lane < kLanes; ++lane) {
      sum_a[lane] += a[lane];
      sum_b[lane] += b[lane];
    }
  }
  std::copy_n(sum_a, kLanes, first);
  std::copy_n(sum_b, kLanes, second);
}

// sums[lane] and squares[lane] of x over the image. They are taken of the
// differences to the image's first value, so that squares far from 0 do not
// swallow the variance.
template <typename Value>
inline void SumValues(const GroupNormShape& shape, const Value* x, double* sums,
                      double* squares) {
  float pivot[kLanes];
  for (size_t lane = 0; lane < kLanes; ++lane) pivot[lane] = Widen(x[lane]);
  SumLanes(
      shape.spatial,
      [&](size_t s, float* __restrict a, float* __restrict b) {
        const Value* from = x + s * shape.inner;
        FetchToRead(from + kAhead * shape.inner);
#pragma GCC unroll 1
        for (size_t lane = 0; lane < kLanes; ++lane) {
          const float value = Widen(from[lane]) - pivot[lane];
          a[lane] += value;
          b[lane] += value * value;
        }
      },
      sums, squares);
  const double count = static_cast<double>(shape.spatial);
  for (size_t lane = 0; lane < kLanes; ++lane) {
    const double p = pivot[lane];
    squares[lane] += p * (2 * sums[lane] + count * p);
    sums[lane] += count * p;
  }
}

// Sixteen channels' coefficients, from one of several arrays that lie
// `padded` apart.
struct Lanes {
  explicit Lanes(const float* from) { std::copy_n(from, kLanes, values); }
  float operator[](size_t lane) const { return values[lane]; }
  float values[kLanes];
};

// Whether the ReLU let a value through that nothing was added to.
inline bool Passes(float x, float factor, float offset) {
  return x * factor + offset > 0;
}

// Sums of dy, and of dy * (x - center). line: as GroupNormMoments has it, of
// these channels.
template <bool kRectified, typename Value>
inline void SumGradients(const GroupNormShape& shape, const Value* x,
                         const Value* dy, const float* center,
                         const float* line, double* sums, double* products) {
  const Lanes factor(line), offset(line + shape.padded()), middle(center);
  SumLanes(
      shape.spatial,
      [&](size_t s, float* __restrict a, float* __restrict b) {
        const Value* from = x + s * shape.inner;
        const Value* gradient = dy + s * shape.inner;
        FetchToRead(from + kAhead * shape.inner);
        FetchToRead(gradient + kAhead * shape.inner);
#pragma GCC unroll 1
        for (size_t lane = 0; lane < kLanes; ++lane) {
          const float value = Widen(from[lane]);
          float g = Widen(gradient[lane]);
          if (kRectified && !Passes(value, factor[lane], offset[lane])) g = 0;
          a[lane] += g;
          b[lane] += g * (value - middle[lane]);
        }
      },
      sums, products);
}

// The same while the gradient is put together.
template <bool kRectified, bool kSecond, typename Value>
inline void MergeGradients(const GroupNormShape& shape, const Value* x,
                           const Value* y, const Value* first,
                           const Value* second, const float* center,
                           Value* whole, double* sums, double* products) {
  const Lanes middle(center);
  SumLanes(
      shape.spatial,
      [&](size_t s, float* __restrict a, float* __restrict b) {
        const size_t at = s * shape.inner;
        const size_t ahead = at + kAhead * shape.inner;
        FetchToRead(x + ahead);
        FetchToRead(first + ahead);
        if (kSecond) FetchToRead(second + ahead);
        if (kRectified) FetchToRead(y + ahead);
      // `whole` may be what is read, value by value.
#pragma GCC unroll 1
#pragma GCC ivdep
        for (size_t lane = 0; lane < kLanes; ++lane) {
          float g = Widen(first[at + lane]);
          if (kSecond) g += Widen(second[at + lane]);
          if (kRectified && !(Widen(y[at + lane]) > 0)) g = 0;
          Narrow<false>(g, &whole[at + lane]);
          a[lane] += g;
          b[lane] += g * (Widen(x[at + lane]) - middle[lane]);
        }
      },
      sums, products);
}

// y = x * factor + offset + other, rectified or not.
template <bool kRectified, bool kAdds, bool kRounds, typename Value>
inline void Scale(const GroupNormShape& shape, const Value* __restrict x,
                  const Value* __restrict other, const float* line,
                  Value* __restrict y) {
  const Lanes factor(line), offset(line + shape.padded());
  for (size_t s = 0; s < shape.spatial; ++s) {
    const size_t first = s * shape.inner;
    FetchToWrite(y + first + kAhead * shape.inner);
    if (kAdds) FetchToRead(other + first + kAhead * shape.inner);
#pragma GCC unroll 1
    for (size_t lane = 0; lane < kLanes; ++lane) {
      float value = Widen(x[first + lane]) * factor[lane] + offset[lane];
      if (kAdds) value += Widen(other[first + lane]);
      if (kRectified) value = value > 0 ? value : 0;
      Narrow<kRounds>(value, &y[first + lane]);
    }
  }
}

// dx = dy * factor + x * slope + offset; c: the three, `padded` apart. dx may
// be dy.
template <bool kRectified, bool kRounds, typename Value>
inline void BackwardScale(const GroupNormShape& shape,
                          const Value* __restrict x, const Value* dy,
                          const float* line, const float* c, Value* dx) {
  const Lanes factor(c), slope(c + shape.padded()),
      offset(c + 2 * shape.padded());
  const Lanes scale(line), shift(line + shape.padded());
  for (size_t s = 0; s < shape.spatial; ++s) {
    const size_t first = s * shape.inner;
#pragma GCC unroll 1
#pragma GCC ivdep
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const float value = Widen(x[first + lane]);
      float g = Widen(dy[first + lane]);
      if (kRectified && !Passes(value, scale[lane], shift[lane])) g = 0;
      Narrow<kRounds>(g * factor[lane] + value * slope[lane] + offset[lane],
                      &dx[first + lane]);
    }
  }
}

}  // namespace koinon::kernels::onednn::group_norm_loops

#endif  // KOINON_KERNELS_ONEDNN_GROUP_NORM_LOOPS_H_
