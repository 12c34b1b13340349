#include "kernels/onednn/group_norm_kernel.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "kernels/onednn/group_norm_loops.h"
#include "kernels/onednn/openmp.h"
#include "kernels/widest_vectors.h"

namespace koinon::kernels::onednn {
namespace {

using group_norm_loops::BackwardScale;
using group_norm_loops::ForEachBlock;
using group_norm_loops::kLanes;
using group_norm_loops::MergeGradients;
using group_norm_loops::Scale;
using group_norm_loops::SumGradients;
using group_norm_loops::SumValues;

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

// Calls body(std::true_type()) or body(std::false_type()).
template <typename Body>
inline void WithConstant(bool value, const Body& body) {
  if (value) {
    body(std::true_type());
  } else {
    body(std::false_type());
  }
}

// Where example b's part of an array of `size` values each begins; null stays
// null.
template <typename T>
inline T* Of(size_t b, size_t size, T* array) {
  return array == nullptr ? nullptr : array + b * size;
}

inline GroupNormMoments Of(size_t b, const GroupNormShape& shape,
                           const GroupNormMoments& moments) {
  return {Of(b, shape.groups, moments.mean),
          Of(b, shape.groups, moments.inverse),
          Of(b, 2 * shape.padded(), moments.line)};
}

template <typename Value>
inline GroupNormGradients<Value> Of(
    size_t b, size_t size, const GroupNormGradients<Value>& gradients) {
  return {Of(b, size, gradients.first), Of(b, size, gradients.second),
          Of(b, size, gradients.whole), Of(b, size, gradients.x)};
}

template <typename Value>
inline void ForwardExample(const GroupNormShape& shape, const Value* x,
                           const Value* other, const float* scale,
                           const float* shift, double* sums,
                           const GroupNormMoments& moments, Value* y) {
  ForEachBlock(shape, [&](size_t channel, size_t first) {
    SumValues(shape, x + first, sums + channel,
              sums + shape.padded() + channel);
  });
  TakeMoments(shape, sums, sums + shape.padded(), scale, shift, moments.mean,
              moments.inverse, moments.line, moments.line + shape.padded());
  WithConstant(shape.rectified, [&](auto rectified) {
    WithConstant(other != nullptr, [&](auto adds) {
      WithConstant(shape.rounds_output, [&](auto rounds) {
        ForEachBlock(shape, [&](size_t channel, size_t first) {
          Scale<rectified, adds, rounds>(shape, x + first,
                                         adds ? other + first : nullptr,
                                         moments.line + channel, y + first);
        });
      });
    });
  });
}

// The first pass: sums, and the whole gradient where it is wanted.
template <typename Value>
inline void SumExample(const GroupNormShape& shape, const Value* x,
                       const Value* y, const GroupNormMoments& moments,
                       const GroupNormGradients<Value>& gradients,
                       double* sums) {
  double* products = sums + shape.padded();
  const size_t width = shape.channels / shape.groups;
  WithConstant(shape.rectified, [&](auto rectified) {
    WithConstant(gradients.second != nullptr, [&](auto has_second) {
      ForEachBlock(shape, [&](size_t channel, size_t first) {
        float center[kLanes] = {};
        const size_t lanes = std::min(kLanes, shape.channels - channel);
        for (size_t lane = 0; lane < lanes; ++lane) {
          center[lane] = moments.mean[(channel + lane) / width];
        }
        if (gradients.whole == nullptr) {
          SumGradients<rectified>(shape, x + first, gradients.first + first,
                                  center, moments.line + channel,
                                  sums + channel, products + channel);
        } else {
          MergeGradients<rectified, has_second>(
              shape, x + first, rectified ? y + first : nullptr,
              gradients.first + first,
              has_second ? gradients.second + first : nullptr, center,
              gradients.whole + first, sums + channel, products + channel);
        }
      });
    });
  });
}

template <typename Value>
inline void BackwardExample(const GroupNormShape& shape, const Value* x,
                            const Value* y, const float* scale,
                            const GroupNormMoments& moments,
                            const GroupNormGradients<Value>& gradients,
                            double* sums, float* coefficients) {
  SumExample(shape, x, y, moments, gradients, sums);
  TakeSlopes(shape, scale, moments.mean, moments.inverse, sums,
             sums + shape.padded(), coefficients);
  if (gradients.x == nullptr) return;
  // The whole gradient is 0 already where the ReLU was.
  const bool is_whole = gradients.whole != nullptr;
  const Value* dy = is_whole ? gradients.whole : gradients.first;
  WithConstant(shape.rectified && !is_whole, [&](auto rectified) {
    WithConstant(shape.rounds_gradient, [&](auto rounds) {
      ForEachBlock(shape, [&](size_t channel, size_t first) {
        BackwardScale<rectified, rounds>(
            shape, x + first, dy + first, moments.line + channel,
            coefficients + channel, gradients.x + first);
      });
    });
  });
}

// Sums over the batch of the examples' sums, [B, 2, padded].
void SumExamples(const GroupNormShape& shape, const double* sums,
                 float* scale_gradient, float* shift_gradient) {
  for (size_t c = 0; c < shape.channels; ++c) {
    double sum = 0, product = 0;
    for (size_t b = 0; b < shape.batch; ++b) {
      const double* of_example = Of(b, 2 * shape.padded(), sums);
      sum += of_example[c];
      product += of_example[shape.padded() + c];
    }
    shift_gradient[c] = static_cast<float>(sum);
    scale_gradient[c] = static_cast<float>(product);
  }
}

}  // namespace

template <typename Value>
void ForwardGroupNorm(const GroupNormShape& shape, int threads, const Value* x,
                      const Value* other, const float* scale,
                      const float* shift, const GroupNormScratch& scratch,
                      const GroupNormMoments& moments, Value* y) {
  const size_t size = shape.spatial * shape.padded();
  ParallelFor(threads, shape.batch, [&](size_t begin, size_t end) {
    WithWidestVectors([&] {
      for (size_t b = begin; b < end; ++b) {
        ForwardExample(shape, Of(b, size, x), Of(b, size, other), scale, shift,
                       Of(b, 2 * shape.padded(), scratch.sums),
                       Of(b, shape, moments), Of(b, size, y));
      }
    });
  });
}

template <typename Value>
void BackwardGroupNorm(const GroupNormShape& shape, int threads, const Value* x,
                       const Value* y, const float* scale,
                       const GroupNormMoments& moments,
                       const GroupNormGradients<Value>& gradients,
                       const GroupNormScratch& scratch, float* scale_gradient,
                       float* shift_gradient) {
  const size_t size = shape.spatial * shape.padded();
  ParallelFor(threads, shape.batch, [&](size_t begin, size_t end) {
    WithWidestVectors([&] {
      for (size_t b = begin; b < end; ++b) {
        BackwardExample(shape, Of(b, size, x), Of(b, size, y), scale,
                        Of(b, shape, moments), Of(b, size, gradients),
                        Of(b, 2 * shape.padded(), scratch.sums),
                        Of(b, 3 * shape.padded(), scratch.coefficients));
      }
    });
  });
  SumExamples(shape, scratch.sums, scale_gradient, shift_gradient);
}

#define KOINON_GROUP_NORM_OF(Value)                                            \
  template void ForwardGroupNorm(                                              \
      const GroupNormShape&, int, const Value*, const Value*, const float*,    \
      const float*, const GroupNormScratch&, const GroupNormMoments&, Value*); \
  template void BackwardGroupNorm(                                             \
      const GroupNormShape&, int, const Value*, const Value*, const float*,    \
      const GroupNormMoments&, const GroupNormGradients<Value>&,               \
      const GroupNormScratch&, float*, float*)
KOINON_GROUP_NORM_OF(float);
KOINON_GROUP_NORM_OF(uint16_t);
#undef KOINON_GROUP_NORM_OF

}  // namespace koinon::kernels::onednn
