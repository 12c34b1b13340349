#include <algorithm>

#include "kernels/reference/layers.h"

namespace koinon::kernels::reference {
namespace {

// tokens: [B, T], weight: [V, C], bias: [T, C] or none, y: [B, T, C].
// Calls visit(token's value, position's value, output value) for every output.
template <typename Visit>
void ForEachValue(const ModelGraph::Layer& layer, const LayerTensors& t,
                  const Visit& visit) {
  const size_t T = layer.output_shape[0], C = layer.output_shape[1];
  for (size_t row = 0; row < t.batch * T; ++row) {
    const auto token = static_cast<size_t>(t.input[row]);
    for (size_t c = 0; c < C; ++c) {
      visit(token * C + c, row % T * C + c, row * C + c);
    }
  }
}

}  // namespace

void ForwardEmbedding(const ModelGraph::Layer& layer, const LayerTensors& t) {
  ForEachValue(layer, t, [&](size_t token, size_t position, size_t y) {
    t.output[y] = t.weight[token] + (t.bias == nullptr ? 0 : t.bias[position]);
  });
}

void BackwardEmbedding(const ModelGraph::Layer& layer, const LayerTensors& t) {
  // Nothing is to be learned about tokens.
  std::fill_n(t.input_gradient, t.batch * ElementCount(layer.input_shape), 0.0);
  ForEachValue(layer, t, [&](size_t token, size_t position, size_t y) {
    t.weight_gradient[token] += t.output_gradient[y];
    if (t.bias_gradient != nullptr) {
      t.bias_gradient[position] += t.output_gradient[y];
    }
  });
}

}  // namespace koinon::kernels::reference
