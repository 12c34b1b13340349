#include <algorithm>

#include "kernels/reference/layers.h"

namespace koinon::kernels::reference {
namespace {

// x: [N, H, W], y: [N, P, Q], N = B * C: pooling sees no channels.
struct PoolShape {
  PoolShape(const ModelGraph::Layer& layer, size_t batch)
      : is_max(layer.spec.has_max_pool()),
        N(static_cast<int64_t>(batch) * layer.input_shape[0]),
        H(layer.input_shape[1]),
        W(layer.input_shape[2]),
        P(layer.output_shape[1]),
        Q(layer.output_shape[2]),
        pool(is_max ? layer.spec.max_pool() : layer.spec.average_pool()) {}

  // Calls visit(input index) for every value that output (n, p, q) sees.
  template <typename Visit>
  void ForEachSeen(int64_t n, int64_t p, int64_t q, const Visit& visit) const {
    const int64_t top = p * pool.stride() - pool.padding();
    const int64_t left = q * pool.stride() - pool.padding();
    const int64_t bottom = std::min(top + pool.kernel(), H);
    const int64_t right = std::min(left + pool.kernel(), W);
    for (int64_t h = std::max<int64_t>(top, 0); h < bottom; ++h) {
      for (int64_t w = std::max<int64_t>(left, 0); w < right; ++w) {
        visit((n * H + h) * W + w);
      }
    }
  }

  // The index of the first of the largest values that output (n, p, q) sees.
  int64_t Largest(const double* x, int64_t n, int64_t p, int64_t q) const {
    int64_t best = -1;
    ForEachSeen(n, p, q, [&](int64_t i) {
      if (best < 0 || x[i] > x[best]) best = i;
    });
    return best;
  }

  // Calls visit(n, p, q, output index) for every output.
  template <typename Visit>
  void ForEachOutput(const Visit& visit) const {
    for (int64_t n = 0; n < N; ++n) {
      for (int64_t p = 0; p < P; ++p) {
        for (int64_t q = 0; q < Q; ++q) visit(n, p, q, (n * P + p) * Q + q);
      }
    }
  }

  // The padding's zeros count in an average.
  double Share() const {
    return 1.0 / static_cast<double>(pool.kernel() * pool.kernel());
  }

  const bool is_max;
  const int64_t N, H, W, P, Q;
  const v1::Layer::Pool& pool;
};

}  // namespace

void ForwardPool(const ModelGraph::Layer& layer, const LayerTensors& t) {
  const PoolShape shape(layer, t.batch);
  shape.ForEachOutput([&](int64_t n, int64_t p, int64_t q, int64_t y) {
    if (shape.is_max) {
      t.output[y] = t.input[shape.Largest(t.input, n, p, q)];
      return;
    }
    double sum = 0;
    shape.ForEachSeen(n, p, q, [&](int64_t x) { sum += t.input[x]; });
    t.output[y] = sum * shape.Share();
  });
}

void BackwardPool(const ModelGraph::Layer& layer, const LayerTensors& t) {
  const PoolShape shape(layer, t.batch);
  std::fill_n(t.input_gradient, shape.N * shape.H * shape.W, 0.0);
  shape.ForEachOutput([&](int64_t n, int64_t p, int64_t q, int64_t y) {
    const double dy = t.output_gradient[y];
    if (shape.is_max) {
      t.input_gradient[shape.Largest(t.input, n, p, q)] += dy;
      return;
    }
    shape.ForEachSeen(
        n, p, q, [&](int64_t x) { t.input_gradient[x] += dy * shape.Share(); });
  });
}

// x: [N, S], y: [N], N = B * C.
void ForwardGlobalPool(const ModelGraph::Layer& layer, const LayerTensors& t) {
  const size_t S = layer.input_shape[1] * layer.input_shape[2];
  for (size_t n = 0; n < t.batch * layer.input_shape[0]; ++n) {
    double sum = 0;
    for (size_t s = 0; s < S; ++s) sum += t.input[n * S + s];
    t.output[n] = sum / static_cast<double>(S);
  }
}

void BackwardGlobalPool(const ModelGraph::Layer& layer, const LayerTensors& t) {
  const size_t S = layer.input_shape[1] * layer.input_shape[2];
  for (size_t n = 0; n < t.batch * layer.input_shape[0]; ++n) {
    for (size_t s = 0; s < S; ++s) {
      t.input_gradient[n * S + s] =
          t.output_gradient[n] / static_cast<double>(S);
    }
  }
}

}  // namespace koinon::kernels::reference
