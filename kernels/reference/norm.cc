#include <cmath>

#include "kernels/reference/layers.h"

namespace koinon::kernels::reference {
namespace {

// Both norms: the batch is rows of M values, each brought to mean 0 and
// variance 1; value j of an example (of a position, in a sequence) is then
// scaled by weight[j / spatial]. Layer norm (Ba et al. 2016): one row, spatial
// = 1. Group norm (Wu and He 2018): G rows, `spatial` values to a channel.
struct NormShape {
  NormShape(const ModelGraph::Layer& layer, size_t batch)
      : size(ElementCount(layer.input_shape)), total(batch * size) {
    if (layer.spec.has_layer_norm()) {
      if (layer.input_shape.size() == 2) size = layer.input_shape[1];
      M = size;
      epsilon = layer.spec.layer_norm().epsilon();
    } else {
      M = size / layer.spec.group_norm().groups();
      spatial = size / layer.input_shape[0];
      epsilon = layer.spec.group_norm().epsilon();
    }
  }

  size_t size;  // what the scales are for: an example, or a position
  size_t total;
  size_t M;
  size_t spatial = 1;
  double epsilon;
};

struct Moments {
  double mean = 0;
  double inverse_deviation = 0;
};

Moments MomentsOf(const NormShape& shape, const double* row) {
  Moments moments;
  for (size_t j = 0; j < shape.M; ++j) moments.mean += row[j];
  moments.mean /= static_cast<double>(shape.M);
  double squares = 0;
  for (size_t j = 0; j < shape.M; ++j) {
    squares += (row[j] - moments.mean) * (row[j] - moments.mean);
  }
  moments.inverse_deviation =
      1 / std::sqrt(squares / static_cast<double>(shape.M) + shape.epsilon);
  return moments;
}

}  // namespace

void ForwardNorm(const ModelGraph::Layer& layer, const LayerTensors& t) {
  const NormShape shape(layer, t.batch);
  for (size_t row = 0; row < shape.total; row += shape.M) {
    const Moments moments = MomentsOf(shape, t.input + row);
    for (size_t i = row; i < row + shape.M; ++i) {
      const size_t c = i % shape.size / shape.spatial;
      t.output[i] = t.weight[c] * (t.input[i] - moments.mean) *
                        moments.inverse_deviation +
                    t.bias[c];
    }
  }
}

// With z the normalised values and g = dy * weight:
// dx = (g - mean(g) - z * mean(g * z)) / deviation.
void BackwardNorm(const ModelGraph::Layer& layer, const LayerTensors& t) {
  const NormShape shape(layer, t.batch);
  for (size_t row = 0; row < shape.total; row += shape.M) {
    const Moments moments = MomentsOf(shape, t.input + row);
    double mean_g = 0, mean_gz = 0;
    for (size_t i = row; i < row + shape.M; ++i) {
      const size_t c = i % shape.size / shape.spatial;
      const double z = (t.input[i] - moments.mean) * moments.inverse_deviation;
      const double dy = t.output_gradient[i];
      t.weight_gradient[c] += dy * z;
      t.bias_gradient[c] += dy;
      mean_g += dy * t.weight[c] / static_cast<double>(shape.M);
      mean_gz += dy * t.weight[c] * z / static_cast<double>(shape.M);
    }
    for (size_t i = row; i < row + shape.M; ++i) {
      const size_t c = i % shape.size / shape.spatial;
      const double z = (t.input[i] - moments.mean) * moments.inverse_deviation;
      t.input_gradient[i] =
          (t.output_gradient[i] * t.weight[c] - mean_g - z * mean_gz) *
          moments.inverse_deviation;
    }
  }
}

}  // namespace koinon::kernels::reference
