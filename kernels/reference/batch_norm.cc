#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/reference/layers.h"

namespace koinon::kernels::reference {
namespace {

// Batch norm (Ioffe and Szegedy 2015). x: [B, C, S]: each channel is brought to
// mean 0 and variance 1 over its N = B * S values.
struct BatchNormShape {
  BatchNormShape(const ModelGraph::Layer& layer, size_t batch)
      : B(batch),
        C(layer.input_shape[0]),
        S(ElementCount(layer.input_shape) / C),
        N(static_cast<double>(B * S)),
        epsilon(layer.spec.batch_norm().epsilon()) {}

  // Calls visit(index) for every value of channel c.
  template <typename Visit>
  void ForEach(size_t c, const Visit& visit) const {
    for (size_t b = 0; b < B; ++b) {
      for (size_t s = 0; s < S; ++s) visit((b * C + c) * S + s);
    }
  }

  const size_t B, C, S;
  const double N;
  const double epsilon;
};

struct Moments {
  double mean = 0;
  double variance = 0;
};

Moments MomentsOf(const BatchNormShape& shape, size_t c, const double* x) {
  Moments moments;
  shape.ForEach(c, [&](size_t i) { moments.mean += x[i] / shape.N; });
  shape.ForEach(c, [&](size_t i) {
    moments.variance += (x[i] - moments.mean) * (x[i] - moments.mean) / shape.N;
  });
  return moments;
}

}  // namespace

void ForwardBatchNorm(const ModelGraph::Layer& layer, bool training,
                      const LayerTensors& t) {
  const BatchNormShape shape(layer, t.batch);
  const double momentum = layer.spec.batch_norm().momentum();
  for (size_t c = 0; c < shape.C; ++c) {
    // A running variance that came from outside may be anything.
    Moments moments = {t.weight2[c], std::max(0.0, t.bias2[c])};
    if (training) {
      moments = MomentsOf(shape, c, t.input);
      // The running variance is that of what the batch was drawn from, if one
      // value can say anything of it.
      const double unbiased =
          moments.variance * (shape.N > 1 ? shape.N / (shape.N - 1) : 1);
      t.weight2[c] += momentum * (moments.mean - t.weight2[c]);
      t.bias2[c] += momentum * (unbiased - t.bias2[c]);
    }
    const double inverse = 1 / std::sqrt(moments.variance + shape.epsilon);
    shape.ForEach(c, [&](size_t i) {
      t.output[i] =
          t.weight[c] * (t.input[i] - moments.mean) * inverse + t.bias[c];
    });
  }
}

// With z the normalised values: dx = weight / deviation *
// (dy - mean(dy) - z * mean(dy * z)).
void BackwardBatchNorm(const ModelGraph::Layer& layer, const LayerTensors& t) {
  const BatchNormShape shape(layer, t.batch);
  for (size_t c = 0; c < shape.C; ++c) {
    const Moments moments = MomentsOf(shape, c, t.input);
    const double inverse = 1 / std::sqrt(moments.variance + shape.epsilon);
    double sum = 0, sum_z = 0;
    const auto z = [&](size_t i) {
      return (t.input[i] - moments.mean) * inverse;
    };
    shape.ForEach(c, [&](size_t i) {
      sum += t.output_gradient[i];
      sum_z += t.output_gradient[i] * z(i);
    });
    t.weight_gradient[c] += sum_z;
    t.bias_gradient[c] += sum;
    shape.ForEach(c, [&](size_t i) {
      t.input_gradient[i] =
          t.weight[c] * inverse *
          (t.output_gradient[i] - sum / shape.N - z(i) * sum_z / shape.N);
    });
  }
}

}  // namespace koinon::kernels::reference
