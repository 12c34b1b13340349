#include "kernels/onednn/norm_kernel.h"

#include <cmath>

#include "kernels/onednn/openmp.h"

namespace koinon::kernels::onednn {
namespace {

// Sums term(i) over [0, n) on eight sums side by side, which the processor can
// add at once; always in the same order.
template <typename Term>
double Sum(size_t n, const Term& term) {
  constexpr size_t kLanes = 8;
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

// One row of M values whose first channel is that of scale[0].
void NormalizeRow(const NormShape& shape, const float* x, const float* scale,
                  const float* shift, float mean, float inverse, float* y) {
  if (shape.spatial == 1) {
    for (size_t j = 0; j < shape.row; ++j) {
      y[j] = (x[j] - mean) * inverse * scale[j] + shift[j];
    }
    return;
  }
  for (size_t c = 0; c < shape.row / shape.spatial; ++c) {
    const float factor = inverse * scale[c];
    const float offset = shift[c];
    const float* from = x + c * shape.spatial;
    float* to = y + c * shape.spatial;
    for (size_t s = 0; s < shape.spatial; ++s) {
      to[s] = (from[s] - mean) * factor + offset;
    }
  }
}

// Sums over one row of g = dy * scale, and of g * z, z = normalised x.
struct RowSums {
  double g = 0;
  double gz = 0;
};

RowSums SumRow(const NormShape& shape, const float* x, const float* scale,
               double mean, double inverse, const float* dy) {
  if (shape.spatial == 1) {
    return {Sum(shape.row, [&](size_t j) { return double{dy[j]} * scale[j]; }),
            Sum(shape.row, [&](size_t j) {
              return double{dy[j]} * scale[j] * ((x[j] - mean) * inverse);
            })};
  }
  RowSums sums;
  for (size_t c = 0; c < shape.row / shape.spatial; ++c) {
    const float* from = x + c * shape.spatial;
    const float* gradient = dy + c * shape.spatial;
    sums.g += scale[c] *
              Sum(shape.spatial, [&](size_t s) { return double{gradient[s]}; });
    sums.gz += scale[c] * inverse * Sum(shape.spatial, [&](size_t s) {
                 return gradient[s] * (from[s] - mean);
               });
  }
  return sums;
}

// dx = (g - mean(g) - z * mean(g * z)) * inverse
void BackwardRow(const NormShape& shape, const float* x, const float* scale,
                 float mean, float inverse, const float* dy, float* dx) {
  const RowSums sums = SumRow(shape, x, scale, mean, inverse, dy);
  const float mean_g = static_cast<float>(sums.g / shape.row);
  const float slope = static_cast<float>(sums.gz / shape.row * inverse);
  if (shape.spatial == 1) {
    for (size_t j = 0; j < shape.row; ++j) {
      dx[j] = (dy[j] * scale[j] - mean_g - (x[j] - mean) * slope) * inverse;
    }
    return;
  }
  for (size_t c = 0; c < shape.row / shape.spatial; ++c) {
    const size_t first = c * shape.spatial;
    const float factor = scale[c];
    for (size_t j = first; j < first + shape.spatial; ++j) {
      dx[j] = (dy[j] * factor - mean_g - (x[j] - mean) * slope) * inverse;
    }
  }
}

// The gradients of channel c's scale and shift, over the whole batch.
void BackwardChannel(const NormShape& shape, size_t c, const float* x,
                     const float* mean, const float* inverse, const float* dy,
                     float* scale_gradient, float* shift_gradient) {
  const size_t size = shape.groups * shape.row;
  const size_t group = c * shape.spatial / shape.row;
  double scale_sum = 0, shift_sum = 0;
  for (size_t b = 0; b < shape.batch; ++b) {
    const size_t first = b * size + c * shape.spatial;
    const size_t row = b * shape.groups + group;
    const double row_mean = mean[row];
    shift_sum +=
        Sum(shape.spatial, [&](size_t s) { return double{dy[first + s]}; });
    scale_sum += inverse[row] * Sum(shape.spatial, [&](size_t s) {
                   return dy[first + s] * (x[first + s] - row_mean);
                 });
  }
  scale_gradient[c] = static_cast<float>(scale_sum);
  shift_gradient[c] = static_cast<float>(shift_sum);
}

}  // namespace

void ForwardNorm(const NormShape& shape, int threads, const float* x,
                 const float* scale, const float* shift, float* y, float* mean,
                 float* inverse_deviation) {
  const auto rows = [&](size_t begin, size_t end) {
    for (size_t row = begin; row < end; ++row) {
      const float* from = x + row * shape.row;
      const double center =
          Sum(shape.row, [&](size_t j) { return double{from[j]}; }) / shape.row;
      const double variance = Sum(shape.row,
                                  [&](size_t j) {
                                    const double d = from[j] - center;
                                    return d * d;
                                  }) /
                              shape.row;
      mean[row] = static_cast<float>(center);
      inverse_deviation[row] =
          static_cast<float>(1 / std::sqrt(variance + shape.epsilon));
      const size_t channel = row % shape.groups * (shape.row / shape.spatial);
      NormalizeRow(shape, from, scale + channel, shift + channel, mean[row],
                   inverse_deviation[row], y + row * shape.row);
    }
  };
  ParallelFor(threads, shape.batch * shape.groups, rows);
}

void BackwardNorm(const NormShape& shape, int threads, const float* x,
                  const float* scale, const float* mean,
                  const float* inverse_deviation, const float* y_gradient,
                  float* x_gradient, float* scale_gradient,
                  float* shift_gradient) {
  ParallelFor(threads, shape.channels, [&](size_t begin, size_t end) {
    for (size_t c = begin; c < end; ++c) {
      BackwardChannel(shape, c, x, mean, inverse_deviation, y_gradient,
                      scale_gradient, shift_gradient);
    }
  });
  if (x_gradient == nullptr) return;
  const auto rows = [&](size_t begin, size_t end) {
    for (size_t row = begin; row < end; ++row) {
      const size_t channel = row % shape.groups * (shape.row / shape.spatial);
      BackwardRow(shape, x + row * shape.row, scale + channel, mean[row],
                  inverse_deviation[row], y_gradient + row * shape.row,
                  x_gradient + row * shape.row);
    }
  };
  ParallelFor(threads, shape.batch * shape.groups, rows);
}

}  // namespace koinon::kernels::onednn
