#include "kernels/onednn/group_norm_kernel.h"

#include <algorithm>
#include <cmath>

#include "absl/base/casts.h"
#include "kernels/onednn/openmp.h"
#include "kernels/widest_vectors.h"

namespace koinon::kernels::onednn {
namespace {

constexpr size_t kLanes = kGroupNormLanes;

// Loops over lanes are for the vectoriser, which comes too late where they have
// been unrolled: hence the pragmas.

inline float Widen(float value) { return value; }
// A bfloat16 is the upper half of a float.
inline float Widen(uint16_t value) {
  return absl::bit_cast<float>(uint32_t{value} << 16);
}
inline void Narrow(float value, float* to) { *to = value; }
// To the nearest, ties to even. What is no number stays none, unless its lower
// half alone said so: then it becomes an infinity.
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

// So many values are summed in single precision before the sum is widened.
constexpr size_t kChunk = 32;

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

// dy where the ReLU let something through.
template <bool kRectified, typename Value>
inline float Passed(Value gradient, Value y) {
  const float g = Widen(gradient);
  return !kRectified || Widen(y) > 0 ? g : 0.0f;
}

// Sums of dy, and of dy * (x - center).
template <bool kRectified, typename Value>
inline void SumGradients(const GroupNormShape& shape, const Value* x,
                         const Value* y, const Value* dy, const float* center,
                         double* sums, double* products) {
  SumLanes(
      shape.spatial,
      [&](size_t s, float* __restrict a, float* __restrict b) {
        const size_t first = s * shape.inner;
#pragma GCC unroll 1
        for (size_t lane = 0; lane < kLanes; ++lane) {
          const float g = Passed<kRectified>(dy[first + lane], y[first + lane]);
          a[lane] += g;
          b[lane] += g * (Widen(x[first + lane]) - center[lane]);
        }
      },
      sums, products);
}

// y = x * factor + offset, rectified or not.
template <bool kRectified, typename Value>
inline void Scale(const GroupNormShape& shape, const Value* __restrict x,
                  const float* factors, const float* offsets,
                  Value* __restrict y) {
  float factor[kLanes], offset[kLanes];
  std::copy_n(factors, kLanes, factor);
  std::copy_n(offsets, kLanes, offset);
  for (size_t s = 0; s < shape.spatial; ++s) {
    const size_t first = s * shape.inner;
#pragma GCC unroll 1
    for (size_t lane = 0; lane < kLanes; ++lane) {
      float value = Widen(x[first + lane]) * factor[lane] + offset[lane];
      if (kRectified) value = value > 0 ? value : 0;
      Narrow(value, &y[first + lane]);
    }
  }
}

// dx = dy * factor + x * slope + offset; c: the three, `padded` apart.
template <bool kRectified, typename Value>
inline void BackwardScale(const GroupNormShape& shape,
                          const Value* __restrict x, const Value* __restrict y,
                          const Value* __restrict dy, const float* c,
                          Value* __restrict dx) {
  float factor[kLanes], slope[kLanes], offset[kLanes];
  std::copy_n(c, kLanes, factor);
  std::copy_n(c + shape.padded(), kLanes, slope);
  std::copy_n(c + 2 * shape.padded(), kLanes, offset);
  for (size_t s = 0; s < shape.spatial; ++s) {
    const size_t first = s * shape.inner;
#pragma GCC unroll 1
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const float g = Passed<kRectified>(dy[first + lane], y[first + lane]);
      Narrow(g * factor[lane] + Widen(x[first + lane]) * slope[lane] +
                 offset[lane],
             &dx[first + lane]);
    }
  }
}

// From the channels' sums to the groups' moments and the channels' line.
void TakeMoments(const GroupNormShape& shape, const double* sums,
                 const double* squares, const float* scale, const float* shift,
                 float* mean, float* inverse, float* factors, float* offsets) {
  const size_t width = shape.channels / shape.groups;
  const double count = static_cast<double>(width * shape.spatial);
  std::fill(factors + shape.channels, factors + shape.padded(), 0.0f);
  std::fill(offsets + shape.channels, offsets + shape.padded(), 0.0f);
  for (size_t g = 0; g < shape.groups; ++g) {
    double sum = 0, square = 0;
    for (size_t c = g * width; c < (g + 1) * width; ++c) {
      sum += sums[c];
      square += squares[c];
    }
    const double center = sum / count;
    // In double, squares of single precision lose nothing that would be seen.
    const double variance = std::max(0.0, square / count - center * center);
    const double deviation = 1 / std::sqrt(variance + shape.epsilon);
    mean[g] = static_cast<float>(center);
    inverse[g] = static_cast<float>(deviation);
    for (size_t c = g * width; c < (g + 1) * width; ++c) {
      const double factor = deviation * scale[c];
      factors[c] = static_cast<float>(factor);
      offsets[c] = static_cast<float>(shift[c] - center * factor);
    }
  }
}

// dx = (g - mean(g) - z * mean(g * z)) * inverse, g = dy * scale and z the
// normalised x, as three coefficients of each channel. `products` becomes the
// sums of dy * z: the example's part of the scales' gradient.
void TakeSlopes(const GroupNormShape& shape, const float* scale,
                const float* mean, const float* inverse, const double* sums,
                double* products, float* c) {
  const size_t width = shape.channels / shape.groups;
  const double count = static_cast<double>(width * shape.spatial);
  const size_t padded = shape.padded();
  for (size_t k = 0; k < 3; ++k) {
    std::fill(c + k * padded + shape.channels, c + (k + 1) * padded, 0.0f);
  }
  for (size_t g = 0; g < shape.groups; ++g) {
    const double center = mean[g], deviation = inverse[g];
    double sum_g = 0, sum_gz = 0;
    for (size_t i = g * width; i < (g + 1) * width; ++i) {
      products[i] *= deviation;
      sum_g += scale[i] * sums[i];
      sum_gz += scale[i] * products[i];
    }
    const double slope = -sum_gz / count * deviation * deviation;
    const double offset = -sum_g / count * deviation - center * slope;
    for (size_t i = g * width; i < (g + 1) * width; ++i) {
      c[i] = static_cast<float>(deviation * scale[i]);
      c[padded + i] = static_cast<float>(slope);
      c[2 * padded + i] = static_cast<float>(offset);
    }
  }
}

// Where example b's part of an array of `size` values each begins.
template <typename T>
inline T* Of(size_t b, size_t size, T* array) {
  return array + b * size;
}

template <bool kRectified, typename Value>
inline void ForwardExample(const GroupNormShape& shape, const Value* x,
                           const float* scale, const float* shift, double* sums,
                           float* coefficients, float* mean, float* inverse,
                           Value* y) {
  double* squares = sums + shape.padded();
  float* offsets = coefficients + shape.padded();
  ForEachBlock(shape, [&](size_t channel, size_t first) {
    SumValues(shape, x + first, sums + channel, squares + channel);
  });
  TakeMoments(shape, sums, squares, scale, shift, mean, inverse, coefficients,
              offsets);
  ForEachBlock(shape, [&](size_t channel, size_t first) {
    Scale<kRectified>(shape, x + first, coefficients + channel,
                      offsets + channel, y + first);
  });
}

template <bool kRectified, typename Value>
inline void BackwardExample(const GroupNormShape& shape, const Value* x,
                            const Value* y, const float* scale,
                            const float* mean, const float* inverse,
                            const Value* dy, double* sums, float* coefficients,
                            Value* dx) {
  double* products = sums + shape.padded();
  const size_t width = shape.channels / shape.groups;
  ForEachBlock(shape, [&](size_t channel, size_t first) {
    float center[kLanes] = {};
    const size_t lanes = std::min(kLanes, shape.channels - channel);
    for (size_t lane = 0; lane < lanes; ++lane) {
      center[lane] = mean[(channel + lane) / width];
    }
    SumGradients<kRectified>(shape, x + first, y + first, dy + first, center,
                             sums + channel, products + channel);
  });
  TakeSlopes(shape, scale, mean, inverse, sums, products, coefficients);
  if (dx == nullptr) return;
  ForEachBlock(shape, [&](size_t channel, size_t first) {
    BackwardScale<kRectified>(shape, x + first, y + first, dy + first,
                              coefficients + channel, dx + first);
  });
}

}  // namespace

template <typename Value>
void ForwardGroupNorm(const GroupNormShape& shape, int threads, const Value* x,
                      const float* scale, const float* shift,
                      const GroupNormScratch& scratch, float* mean,
                      float* inverse, Value* y) {
  const size_t size = shape.spatial * shape.padded();
  const auto run = [&](size_t begin, size_t end) {
    WithWidestVectors([&] {
      for (size_t b = begin; b < end; ++b) {
        double* sums = Of(b, 2 * shape.padded(), scratch.sums);
        float* coefficients = Of(b, 3 * shape.padded(), scratch.coefficients);
        float* means = Of(b, shape.groups, mean);
        float* inverses = Of(b, shape.groups, inverse);
        if (shape.rectified) {
          ForwardExample<true>(shape, Of(b, size, x), scale, shift, sums,
                               coefficients, means, inverses, Of(b, size, y));
        } else {
          ForwardExample<false>(shape, Of(b, size, x), scale, shift, sums,
                                coefficients, means, inverses, Of(b, size, y));
        }
      }
    });
  };
  ParallelFor(threads, shape.batch, run);
}

template <typename Value>
void BackwardGroupNorm(const GroupNormShape& shape, int threads, const Value* x,
                       const Value* y, const float* scale, const float* mean,
                       const float* inverse, const Value* y_gradient,
                       const GroupNormScratch& scratch, Value* x_gradient,
                       float* scale_gradient, float* shift_gradient) {
  const size_t size = shape.spatial * shape.padded();
  const auto run = [&](size_t begin, size_t end) {
    WithWidestVectors([&] {
      for (size_t b = begin; b < end; ++b) {
        Value* dx = x_gradient == nullptr ? nullptr : Of(b, size, x_gradient);
        double* sums = Of(b, 2 * shape.padded(), scratch.sums);
        float* coefficients = Of(b, 3 * shape.padded(), scratch.coefficients);
        if (shape.rectified) {
          BackwardExample<true>(
              shape, Of(b, size, x), Of(b, size, y), scale,
              Of(b, shape.groups, mean), Of(b, shape.groups, inverse),
              Of(b, size, y_gradient), sums, coefficients, dx);
        } else {
          BackwardExample<false>(
              shape, Of(b, size, x), Of(b, size, y), scale,
              Of(b, shape.groups, mean), Of(b, shape.groups, inverse),
              Of(b, size, y_gradient), sums, coefficients, dx);
        }
      }
    });
  };
  ParallelFor(threads, shape.batch, run);
  for (size_t c = 0; c < shape.channels; ++c) {
    double sum = 0, product = 0;
    for (size_t b = 0; b < shape.batch; ++b) {
      const double* sums = Of(b, 2 * shape.padded(), scratch.sums);
      sum += sums[c];
      product += sums[shape.padded() + c];
    }
    shift_gradient[c] = static_cast<float>(sum);
    scale_gradient[c] = static_cast<float>(product);
  }
}

template void ForwardGroupNorm(const GroupNormShape&, int, const float*,
                               const float*, const float*,
                               const GroupNormScratch&, float*, float*, float*);
template void ForwardGroupNorm(const GroupNormShape&, int, const uint16_t*,
                               const float*, const float*,
                               const GroupNormScratch&, float*, float*,
                               uint16_t*);
template void BackwardGroupNorm(const GroupNormShape&, int, const float*,
                                const float*, const float*, const float*,
                                const float*, const float*,
                                const GroupNormScratch&, float*, float*,
                                float*);
template void BackwardGroupNorm(const GroupNormShape&, int, const uint16_t*,
                                const uint16_t*, const float*, const float*,
                                const float*, const uint16_t*,
                                const GroupNormScratch&, uint16_t*, float*,
                                float*);

}  // namespace koinon::kernels::onednn
