#include <algorithm>

#include "kernels/reference/layers.h"

namespace koinon::kernels::reference {
namespace {

// x: [B, C, H, W], weight: [K, C / G, R, R], y: [B, K, P, Q].
struct ConvShape {
  explicit ConvShape(const ModelGraph::Layer& layer)
      : C(layer.input_shape[0]),
        H(layer.input_shape[1]),
        W(layer.input_shape[2]),
        K(layer.output_shape[0]),
        P(layer.output_shape[1]),
        Q(layer.output_shape[2]),
        R(layer.spec.conv2d().kernel()),
        G(layer.spec.conv2d().groups()),
        stride(layer.spec.conv2d().stride()),
        padding(layer.spec.conv2d().padding()) {}

  int64_t Input(int64_t b, int64_t c, int64_t h, int64_t w) const {
    return ((b * C + c) * H + h) * W + w;
  }
  int64_t Output(int64_t b, int64_t k, int64_t p, int64_t q) const {
    return ((b * K + k) * P + p) * Q + q;
  }
  // c counts within output channel k's group.
  int64_t Weight(int64_t k, int64_t c, int64_t r, int64_t s) const {
    return ((k * (C / G) + c) * R + r) * R + s;
  }

  // Calls visit(input index, weight index) for every term of output
  // (b, k, p, q): y = sum x * weight.
  template <typename Visit>
  void ForEachTerm(int64_t b, int64_t k, int64_t p, int64_t q,
                   const Visit& visit) const {
    const int64_t first_channel = k / (K / G) * (C / G);
    for (int64_t c = 0; c < C / G; ++c) {
      for (int64_t r = 0; r < R; ++r) {
        const int64_t h = p * stride - padding + r;
        if (h < 0 || h >= H) continue;
        for (int64_t s = 0; s < R; ++s) {
          const int64_t w = q * stride - padding + s;
          if (w < 0 || w >= W) continue;
          visit(Input(b, first_channel + c, h, w), Weight(k, c, r, s));
        }
      }
    }
  }

  // Calls visit(b, k, p, q) for every output.
  template <typename Visit>
  void ForEachOutput(size_t batch, const Visit& visit) const {
    for (size_t b = 0; b < batch; ++b) {
      for (int64_t k = 0; k < K; ++k) {
        for (int64_t p = 0; p < P; ++p) {
          for (int64_t q = 0; q < Q; ++q) visit(b, k, p, q);
        }
      }
    }
  }

  const int64_t C, H, W, K, P, Q, R, G, stride, padding;
};

}  // namespace

void ForwardConv2d(const ModelGraph::Layer& layer, const LayerTensors& t) {
  const ConvShape shape(layer);
  shape.ForEachOutput(t.batch, [&](int64_t b, int64_t k, int64_t p, int64_t q) {
    double sum = t.bias == nullptr ? 0 : t.bias[k];
    shape.ForEachTerm(b, k, p, q, [&](int64_t x, int64_t w) {
      sum += t.input[x] * t.weight[w];
    });
    t.output[shape.Output(b, k, p, q)] = sum;
  });
}

void BackwardConv2d(const ModelGraph::Layer& layer, const LayerTensors& t) {
  const ConvShape shape(layer);
  std::fill_n(t.input_gradient, t.batch * shape.C * shape.H * shape.W, 0.0);
  shape.ForEachOutput(t.batch, [&](int64_t b, int64_t k, int64_t p, int64_t q) {
    const double dy = t.output_gradient[shape.Output(b, k, p, q)];
    if (t.bias_gradient != nullptr) t.bias_gradient[k] += dy;
    shape.ForEachTerm(b, k, p, q, [&](int64_t x, int64_t w) {
      t.input_gradient[x] += dy * t.weight[w];
      t.weight_gradient[w] += dy * t.input[x];
    });
  });
}

}  // namespace koinon::kernels::reference
