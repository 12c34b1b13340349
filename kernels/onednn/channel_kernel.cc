#include "kernels/onednn/channel_kernel.h"

#include "kernels/onednn/openmp.h"
#include "kernels/widest_vectors.h"

namespace koinon::kernels::onednn {
namespace {

// Calls body(unit, first value, first channel) for units [0, count), vectors at
// their widest.
template <typename Body>
void ForEachUnit(const ChannelShape& shape, int threads, size_t count,
                 const Body& body) {
  ParallelFor(threads, count, [&](size_t begin, size_t end) {
    WithWidestVectors([&] {
      for (size_t unit = begin; unit < end; ++unit) {
        body(unit, unit * shape.spatial * shape.inner,
             unit % shape.blocks * shape.inner);
      }
    });
  });
}

constexpr size_t kLanes = 16;

// Two sums over n values of one channel, on lanes side by side.
template <typename Term>
inline void SumRow(size_t n, const Term& term, double* first, double* second) {
  double a[kLanes] = {}, b[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      term(i + lane, 0, &a[lane], &b[lane]);
    }
  }
  for (; i < n; ++i) term(i, 0, &a[0], &b[0]);
  *first = *second = 0;
  for (size_t lane = 0; lane < kLanes; ++lane) {
    *first += a[lane];
    *second += b[lane];
  }
}

// Two sums for each of `inner` channels that lie side by side.
template <typename Term>
inline void SumColumns(size_t n, size_t inner, const Term& term,
                       double* __restrict first, double* __restrict second) {
  for (size_t block = 0; block < inner; block += kLanes) {
    const size_t width = inner - block < kLanes ? inner - block : kLanes;
    double a[kLanes] = {}, b[kLanes] = {};
    if (width == kLanes) {
      for (size_t s = 0; s < n; ++s) {
        for (size_t lane = 0; lane < kLanes; ++lane) {
          term(s * inner + block + lane, block + lane, &a[lane], &b[lane]);
        }
      }
    } else {
      for (size_t s = 0; s < n; ++s) {
        for (size_t lane = 0; lane < width; ++lane) {
          term(s * inner + block + lane, block + lane, &a[lane], &b[lane]);
        }
      }
    }
    for (size_t lane = 0; lane < width; ++lane) {
      first[block + lane] = a[lane];
      second[block + lane] = b[lane];
    }
  }
}

template <typename Term>
inline void SumUnit(const ChannelShape& shape, const Term& term, double* first,
                    double* second) {
  if (shape.inner == 1) {
    SumRow(shape.spatial, term, first, second);
  } else {
    SumColumns(shape.spatial, shape.inner, term, first, second);
  }
}

// to[i] = map(i, channel) for the values of one unit.
template <typename Map>
inline void MapUnit(const ChannelShape& shape, const Map& map, float* to) {
  if (shape.inner == 1) {
    for (size_t s = 0; s < shape.spatial; ++s) to[s] = map(s, 0);
    return;
  }
  for (size_t s = 0; s < shape.spatial; ++s) {
    const size_t first = s * shape.inner;
    for (size_t c = 0; c < shape.inner; ++c) to[first + c] = map(first + c, c);
  }
}

}  // namespace

void SumChannels(const ChannelShape& shape, int threads, size_t examples,
                 const float* x, double* sums, double* squares) {
  ForEachUnit(shape, threads, examples * shape.blocks,
              [&](size_t unit, size_t first, size_t) {
                const float* from = x + first;
                SumUnit(
                    shape,
                    [from](size_t i, size_t, double* a, double* b) {
                      const double value = from[i];
                      *a += value;
                      *b += value * value;
                    },
                    sums + unit * shape.inner, squares + unit * shape.inner);
              });
}

void SumProducts(const ChannelShape& shape, int threads, size_t examples,
                 const float* x, const float* center, const float* dy,
                 double* sums, double* products) {
  ForEachUnit(
      shape, threads, examples * shape.blocks,
      [&](size_t unit, size_t first, size_t channel) {
        const float* from = x + first;
        const float* gradient = dy + first;
        double* sum = sums + unit * shape.inner;
        double* product = products + unit * shape.inner;
        if (center == nullptr) {
          SumUnit(
              shape,
              [from, gradient](size_t i, size_t, double* a, double* b) {
                const double g = gradient[i];
                *a += g;
                *b += g * from[i];
              },
              sum, product);
          return;
        }
        const float* middle = center + channel;
        SumUnit(
            shape,
            [from, gradient, middle](size_t i, size_t c, double* a, double* b) {
              const double g = gradient[i];
              *a += g;
              *b += g * (double{from[i]} - double{middle[c]});
            },
            sum, product);
      });
}

void ScaleChannels(const ChannelShape& shape, int threads, const float* x,
                   const float* center, const float* factor,
                   const float* offset, float* y) {
  ForEachUnit(shape, threads, shape.units(),
              [&](size_t, size_t first, size_t channel) {
                const float* from = x + first;
                const float* m = center + channel;
                const float* f = factor + channel;
                const float* o = offset + channel;
                if (shape.inner == 1) {
                  const float mean = *m, scale = *f, shift = *o;
                  float* to = y + first;
                  for (size_t s = 0; s < shape.spatial; ++s) {
                    to[s] = (from[s] - mean) * scale + shift;
                  }
                  return;
                }
                MapUnit(
                    shape,
                    [from, m, f, o](size_t i, size_t c) {
                      return (from[i] - m[c]) * f[c] + o[c];
                    },
                    y + first);
              });
}

void BackwardScaleChannels(const ChannelShape& shape, int threads,
                           const float* x, const float* center, const float* dy,
                           const float* factor, const float* slope,
                           const float* offset, float* dx) {
  ForEachUnit(shape, threads, shape.units(),
              [&](size_t, size_t first, size_t channel) {
                const float* from = x + first;
                const float* g = dy + first;
                const float* m = center + channel;
                const float* f = factor + channel;
                const float* k = slope + channel;
                const float* o = offset + channel;
                if (shape.inner == 1) {
                  const float mean = *m, scale = *f, tilt = *k, shift = *o;
                  float* to = dx + first;
                  for (size_t s = 0; s < shape.spatial; ++s) {
                    to[s] = g[s] * scale + (from[s] - mean) * tilt + shift;
                  }
                  return;
                }
                MapUnit(
                    shape,
                    [from, g, m, f, k, o](size_t i, size_t c) {
                      return g[i] * f[c] + (from[i] - m[c]) * k[c] + o[c];
                    },
                    dx + first);
              });
}

void GateChannels(const ChannelShape& shape, int threads, const float* x,
                  const float* factor, const float* offset, float* y) {
  ForEachUnit(
      shape, threads, shape.units(), [&](size_t unit, size_t first, size_t) {
        const float* f =
            factor == nullptr ? nullptr : factor + unit * shape.inner;
        const float* o =
            offset == nullptr ? nullptr : offset + unit * shape.inner;
        const float* from = x == nullptr ? nullptr : x + first;
        float* to = y + first;
        if (from == nullptr) {
          MapUnit(
              shape, [o](size_t, size_t c) { return o[c]; }, to);
        } else if (o == nullptr) {
          MapUnit(
              shape, [from, f](size_t i, size_t c) { return from[i] * f[c]; },
              to);
        } else {
          MapUnit(
              shape,
              [from, f, o](size_t i, size_t c) {
                return from[i] * f[c] + o[c];
              },
              to);
        }
      });
}

}  // namespace koinon::kernels::onednn
