#include <algorithm>
#include <vector>

#include "kernels/reference/layers.h"

namespace koinon::kernels::reference {
namespace {

constexpr int kRelu = v1::Layer::RELU;
constexpr int kGate = v1::Layer::HARD_SIGMOID;

// One example, x: [C, S]; M hidden values. What the way forward computes before
// the image is multiplied by the gates.
struct Squeezed {
  Squeezed(const ModelGraph::Layer& layer, const LayerTensors& t,
           const double* x)
      : C(layer.input_shape[0]),
        S(ElementCount(layer.input_shape) / C),
        M(layer.spec.squeeze_excite().hidden()),
        mean(C),
        hidden(t.bias, t.bias + M),
        gate(t.bias2, t.bias2 + C) {
    for (size_t i = 0; i < C * S; ++i) {
      mean[i / S] += x[i] / static_cast<double>(S);
    }
    for (size_t i = 0; i < M * C; ++i) {
      hidden[i / C] += t.weight[i] * mean[i % C];
    }
    for (size_t i = 0; i < C * M; ++i) {
      gate[i / M] += t.weight2[i] * Activate(kRelu, hidden[i % M]);
    }
  }

  const size_t C, S, M;
  std::vector<double> mean;    // [C]
  std::vector<double> hidden;  // [M], before the ReLU
  std::vector<double> gate;    // [C], before the sigmoid
};

}  // namespace

void ForwardSqueezeExcite(const ModelGraph::Layer& layer,
                          const LayerTensors& t) {
  const size_t size = ElementCount(layer.input_shape);
  for (size_t b = 0; b < t.batch; ++b) {
    const double* x = t.input + b * size;
    const Squeezed squeezed(layer, t, x);
    for (size_t i = 0; i < size; ++i) {
      t.output[b * size + i] =
          x[i] * Activate(kGate, squeezed.gate[i / squeezed.S]);
    }
  }
}

void BackwardSqueezeExcite(const ModelGraph::Layer& layer,
                           const LayerTensors& t) {
  const size_t size = ElementCount(layer.input_shape);
  for (size_t b = 0; b < t.batch; ++b) {
    const double* x = t.input + b * size;
    const double* dy = t.output_gradient + b * size;
    double* dx = t.input_gradient + b * size;
    const Squeezed q(layer, t, x);
    std::vector<double> gate(q.C), hidden(q.M), mean(q.C);  // gradients
    for (size_t i = 0; i < size; ++i) gate[i / q.S] += dy[i] * x[i];
    for (size_t c = 0; c < q.C; ++c) {
      gate[c] *= ActivationSlope(kGate, q.gate[c]);
      t.bias2_gradient[c] += gate[c];
      for (size_t m = 0; m < q.M; ++m) {
        t.weight2_gradient[c * q.M + m] +=
            gate[c] * Activate(kRelu, q.hidden[m]);
        hidden[m] += gate[c] * t.weight2[c * q.M + m];
      }
    }
    for (size_t m = 0; m < q.M; ++m) {
      hidden[m] *= ActivationSlope(kRelu, q.hidden[m]);
      t.bias_gradient[m] += hidden[m];
      for (size_t c = 0; c < q.C; ++c) {
        t.weight_gradient[m * q.C + c] += hidden[m] * q.mean[c];
        mean[c] += hidden[m] * t.weight[m * q.C + c];
      }
    }
    for (size_t i = 0; i < size; ++i) {
      dx[i] = dy[i] * Activate(kGate, q.gate[i / q.S]) +
              mean[i / q.S] / static_cast<double>(q.S);
    }
  }
}

}  // namespace koinon::kernels::reference
