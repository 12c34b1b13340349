#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/reference/layers.h"

namespace koinon::kernels::reference {
namespace {

// x: [B, T, 3, H, D] (queries, keys, values), y: [B, T, H, D], C = H * D.
struct AttentionShape {
  explicit AttentionShape(const ModelGraph::Layer& layer)
      : T(layer.output_shape[0]),
        C(layer.output_shape[1]),
        H(layer.spec.causal_attention().heads()),
        D(C / H),
        scale(1 / std::sqrt(static_cast<double>(D))) {}

  size_t Query(size_t b, size_t t, size_t h) const {
    return (b * T + t) * 3 * C + h * D;
  }
  size_t Key(size_t b, size_t t, size_t h) const { return Query(b, t, h) + C; }
  size_t Value(size_t b, size_t t, size_t h) const {
    return Query(b, t, h) + 2 * C;
  }
  size_t Output(size_t b, size_t t, size_t h) const {
    return (b * T + t) * C + h * D;
  }

  // What head h at position i makes of the positions up to its own:
  // softmax(q . k * scale).
  std::vector<double> Weights(const double* x, size_t b, size_t i,
                              size_t h) const {
    std::vector<double> weights(i + 1);
    for (size_t j = 0; j <= i; ++j) {
      for (size_t d = 0; d < D; ++d) {
        weights[j] += x[Query(b, i, h) + d] * x[Key(b, j, h) + d] * scale;
      }
    }
    const double largest = *std::max_element(weights.begin(), weights.end());
    double sum = 0;
    for (double& weight : weights) sum += weight = std::exp(weight - largest);
    for (double& weight : weights) weight /= sum;
    return weights;
  }

  // Calls visit(b, i, h) for every head of every position.
  template <typename Visit>
  void ForEachHead(size_t batch, const Visit& visit) const {
    for (size_t b = 0; b < batch; ++b) {
      for (size_t i = 0; i < T; ++i) {
        for (size_t h = 0; h < H; ++h) visit(b, i, h);
      }
    }
  }

  const size_t T, C, H, D;
  const double scale;
};

}  // namespace

void ForwardAttention(const ModelGraph::Layer& layer, const LayerTensors& t) {
  const AttentionShape shape(layer);
  std::fill_n(t.output, t.batch * shape.T * shape.C, 0.0);
  shape.ForEachHead(t.batch, [&](size_t b, size_t i, size_t h) {
    const std::vector<double> weights = shape.Weights(t.input, b, i, h);
    for (size_t j = 0; j <= i; ++j) {
      for (size_t d = 0; d < shape.D; ++d) {
        t.output[shape.Output(b, i, h) + d] +=
            weights[j] * t.input[shape.Value(b, j, h) + d];
      }
    }
  });
}

// With p the weights and g = dy . v of each position: dv = p dy, and through
// the softmax the scores' gradient is p (g - sum(p g)).
void BackwardAttention(const ModelGraph::Layer& layer, const LayerTensors& t) {
  const AttentionShape shape(layer);
  std::fill_n(t.input_gradient, t.batch * shape.T * 3 * shape.C, 0.0);
  shape.ForEachHead(t.batch, [&](size_t b, size_t i, size_t h) {
    const std::vector<double> weights = shape.Weights(t.input, b, i, h);
    const double* dy = t.output_gradient + shape.Output(b, i, h);
    std::vector<double> g(i + 1);
    double mean = 0;
    for (size_t j = 0; j <= i; ++j) {
      for (size_t d = 0; d < shape.D; ++d) {
        g[j] += dy[d] * t.input[shape.Value(b, j, h) + d];
        t.input_gradient[shape.Value(b, j, h) + d] += weights[j] * dy[d];
      }
      mean += weights[j] * g[j];
    }
    for (size_t j = 0; j <= i; ++j) {
      const double score = weights[j] * (g[j] - mean) * shape.scale;
      const size_t query = shape.Query(b, i, h), key = shape.Key(b, j, h);
      for (size_t d = 0; d < shape.D; ++d) {
        t.input_gradient[query + d] += score * t.input[key + d];
        t.input_gradient[key + d] += score * t.input[query + d];
      }
    }
  });
}

}  // namespace koinon::kernels::reference
