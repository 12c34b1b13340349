#include "kernels/onednn/layer_norm_kernel.h"

#include <algorithm>
#include <cmath>

#include "kernels/onednn/openmp.h"
#include "kernels/widest_vectors.h"

namespace koinon::kernels::onednn {
namespace {

constexpr size_t kLanes = 16;

// Sums term(i) over [0, n) on lanes side by side, always in the same order.
template <typename Term>
inline double Sum(size_t n, const Term& term) {
  double lanes[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += term(i + lane);
  }
  for (; i < n; ++i) lanes[0] += term(i);
  double sum = 0;
  for (double lane : lanes) sum += lane;
  return sum;
}

inline void ForwardRow(const LayerNormShape& shape, const float* __restrict x,
                       const float* __restrict scale,
                       const float* __restrict shift, float* __restrict y,
                       float* mean, float* inverse_deviation) {
  const size_t n = shape.features;
  const double center =
      Sum(n, [x](size_t i) { return double{x[i]}; }) / static_cast<double>(n);
  const double variance = Sum(n,
                              [x, center](size_t i) {
                                const double d = x[i] - center;
                                return d * d;
                              }) /
                          static_cast<double>(n);
  const float m = static_cast<float>(center);
  const float inverse =
      static_cast<float>(1 / std::sqrt(variance + shape.epsilon));
  for (size_t i = 0; i < n; ++i) {
    y[i] = (x[i] - m) * inverse * scale[i] + shift[i];
  }
  *mean = m;
  *inverse_deviation = inverse;
}

// Adds a row's part to the gradients of scale and shift.
inline void AddRowSums(size_t n, const float* __restrict x, float mean,
                       float inverse, const float* __restrict dy,
                       double* __restrict scale_sum,
                       double* __restrict shift_sum) {
  for (size_t i = 0; i < n; ++i) {
    scale_sum[i] += dy[i] * ((x[i] - mean) * inverse);
    shift_sum[i] += dy[i];
  }
}

// dx = (g - mean(g) - z * mean(g * z)) * inverse, g = dy * scale, z normalised
// x.
template <bool kAdds>
inline void BackwardRow(size_t n, const float* __restrict x, float mean,
                        float inverse, const float* __restrict scale,
                        const float* __restrict dy, float* dx) {
  const double g = Sum(n, [=](size_t i) { return double{dy[i] * scale[i]}; });
  const double gz = Sum(n, [=](size_t i) {
    return double{dy[i] * scale[i] * ((x[i] - mean) * inverse)};
  });
  const float mean_g = static_cast<float>(g / static_cast<double>(n));
  const float slope = static_cast<float>(gz / static_cast<double>(n)) * inverse;
  for (size_t i = 0; i < n; ++i) {
    const float d =
        (dy[i] * scale[i] - mean_g - (x[i] - mean) * slope) * inverse;
    dx[i] = kAdds ? dx[i] + d : d;
  }
}

}  // namespace

void ForwardLayerNorm(const LayerNormShape& shape, int threads, const float* x,
                      const float* other, float* sum, const float* scale,
                      const float* shift, float* y, float* mean,
                      float* inverse_deviation) {
  ParallelFor(threads, shape.rows, [&](size_t begin, size_t end) {
    WithWidestVectors([&] {
      for (size_t row = begin; row < end; ++row) {
        const size_t first = row * shape.features;
        const float* from = x + first;
        if (other != nullptr) {
          const float* __restrict a = x + first;
          const float* __restrict b = other + first;
          float* __restrict to = sum + first;
          for (size_t i = 0; i < shape.features; ++i) to[i] = a[i] + b[i];
          from = to;
        }
        ForwardRow(shape, from, scale, shift, y + first, mean + row,
                   inverse_deviation + row);
      }
    });
  });
}

void BackwardLayerNorm(const LayerNormShape& shape, int threads, const float* x,
                       const float* scale, const float* mean,
                       const float* inverse_deviation, const float* y_gradient,
                       bool adds, float* x_gradient, float* scale_gradient,
                       float* shift_gradient, double* scratch) {
  const size_t n = shape.features;
  const auto run = [&](size_t r) {
    double* sums = scratch + r * 2 * n;
    std::fill_n(sums, 2 * n, 0.0);
    const size_t end = shape.rows * (r + 1) / kLayerNormRuns;
    for (size_t row = shape.rows * r / kLayerNormRuns; row < end; ++row) {
      const size_t first = row * n;
      const float* from = x + first;
      const float* dy = y_gradient + first;
      AddRowSums(n, from, mean[row], inverse_deviation[row], dy, sums,
                 sums + n);
      if (x_gradient == nullptr) continue;
      if (adds) {
        BackwardRow<true>(n, from, mean[row], inverse_deviation[row], scale, dy,
                          x_gradient + first);
      } else {
        BackwardRow<false>(n, from, mean[row], inverse_deviation[row], scale,
                           dy, x_gradient + first);
      }
    }
  };
  ParallelFor(threads, kLayerNormRuns, [&](size_t begin, size_t end) {
    WithWidestVectors([&] {
      for (size_t r = begin; r < end; ++r) run(r);
    });
  });
  for (size_t i = 0; i < n; ++i) {
    double scale_sum = 0, shift_sum = 0;
    for (size_t r = 0; r < kLayerNormRuns; ++r) {
      scale_sum += scratch[r * 2 * n + i];
      shift_sum += scratch[r * 2 * n + n + i];
    }
    scale_gradient[i] = static_cast<float>(scale_sum);
    shift_gradient[i] = static_cast<float>(shift_sum);
  }
}

}  // namespace koinon::kernels::onednn
