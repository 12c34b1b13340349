#include "kernels/reference/layers.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/types/span.h"
#include "kernels/dropout_mask.h"

namespace koinon::kernels::reference {
namespace {

// Of flat examples, or of the positions of sequences: N rows.
// y[n, o] = bias[o] + sum_i weight[o, i] x[n, i]
void ForwardDense(size_t rows, size_t inputs, size_t outputs,
                  const LayerTensors& t) {
  for (size_t b = 0; b < rows; ++b) {
    for (size_t o = 0; o < outputs; ++o) {
      double sum = t.bias == nullptr ? 0 : t.bias[o];
      for (size_t i = 0; i < inputs; ++i) {
        sum += t.weight[o * inputs + i] * t.input[b * inputs + i];
      }
      t.output[b * outputs + o] = sum;
    }
  }
}

void BackwardDense(size_t rows, size_t inputs, size_t outputs,
                   const LayerTensors& t) {
  std::fill_n(t.input_gradient, rows * inputs, 0.0);
  for (size_t b = 0; b < rows; ++b) {
    for (size_t o = 0; o < outputs; ++o) {
      const double dy = t.output_gradient[b * outputs + o];
      if (t.bias_gradient != nullptr) t.bias_gradient[o] += dy;
      for (size_t i = 0; i < inputs; ++i) {
        t.weight_gradient[o * inputs + i] += dy * t.input[b * inputs + i];
        t.input_gradient[b * inputs + i] += dy * t.weight[o * inputs + i];
      }
    }
  }
}

// sqrt(2 / pi) and the cubic's factor of the tanh form of GELU (Hendrycks and
// Gimpel 2016).
constexpr double kGeluScale = 0.7978845608028653558798921;
constexpr double kGeluCubic = 0.044715;

double Sigmoid(double x) {
  return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x));
}

double Ramp(double x) { return std::clamp(x + 3, 0.0, 6.0) / 6; }
// 0 at the corners.
double RampSlope(double x) { return x > -3 && x < 3 ? 1.0 / 6 : 0; }

// `from` and `to`: [count]. The same linear map both ways.
void ApplyDropout(double rate, const StepState& step, size_t count,
                  const double* from, double* to) {
  if (!step.training) {
    std::copy_n(from, count, to);
    return;
  }
  std::vector<uint8_t> keep(count);
  DrawDropoutMask(step.dropout_seed, rate, 0, absl::MakeSpan(keep));
  for (size_t i = 0; i < count; ++i) to[i] = keep[i] * from[i] / (1 - rate);
}

}  // namespace

double Activate(int kind, double x) {
  switch (kind) {
    case v1::Layer::RELU:
      return x > 0 ? x : 0;
    case v1::Layer::GELU:
      return 0.5 * x *
             (1 + std::tanh(kGeluScale * (x + kGeluCubic * x * x * x)));
    case v1::Layer::TANH:
      return std::tanh(x);
    case v1::Layer::HARD_SWISH:
      return x * Ramp(x);
    case v1::Layer::HARD_SIGMOID:
      return Ramp(x);
    default:
      return Sigmoid(x);
  }
}

double ActivationSlope(int kind, double x) {
  switch (kind) {
    case v1::Layer::RELU:
      return x > 0 ? 1 : 0;
    case v1::Layer::GELU: {
      const double t = std::tanh(kGeluScale * (x + kGeluCubic * x * x * x));
      return 0.5 * (1 + t) +
             0.5 * x * (1 - t * t) * kGeluScale * (1 + 3 * kGeluCubic * x * x);
    }
    case v1::Layer::TANH: {
      const double t = std::tanh(x);
      return 1 - t * t;
    }
    case v1::Layer::HARD_SWISH:
      return Ramp(x) + x * RampSlope(x);
    case v1::Layer::HARD_SIGMOID:
      return RampSlope(x);
    default: {
      const double s = Sigmoid(x);
      return s * (1 - s);
    }
  }
}

size_t ElementCount(const std::vector<int64_t>& shape) {
  size_t count = 1;
  for (int64_t extent : shape) count *= static_cast<size_t>(extent);
  return count;
}

void ForwardLayer(const ModelGraph::Layer& layer, const StepState& step,
                  const LayerTensors& t) {
  const size_t inputs = ElementCount(layer.input_shape);
  const size_t count = t.batch * inputs;
  switch (layer.spec.kind_case()) {
    case v1::Layer::kDense:
    case v1::Layer::kUnembedding:
      return ForwardDense(count / layer.input_shape.back(),
                          layer.input_shape.back(), layer.output_shape.back(),
                          t);
    case v1::Layer::kConv2D:
      return ForwardConv2d(layer, t);
    case v1::Layer::kMaxPool:
    case v1::Layer::kAveragePool:
      return ForwardPool(layer, t);
    case v1::Layer::kGroupNorm:
    case v1::Layer::kLayerNorm:
      return ForwardNorm(layer, t);
    case v1::Layer::kBatchNorm:
      return ForwardBatchNorm(layer, step.training, t);
    case v1::Layer::kEmbedding:
      return ForwardEmbedding(layer, t);
    case v1::Layer::kCausalAttention:
      return ForwardAttention(layer, t);
    case v1::Layer::kSqueezeExcite:
      return ForwardSqueezeExcite(layer, t);
    case v1::Layer::kGlobalAveragePool:
      return ForwardGlobalPool(layer, t);
    case v1::Layer::kActivation:
      for (size_t i = 0; i < count; ++i) {
        t.output[i] = Activate(layer.spec.activation(), t.input[i]);
      }
      return;
    case v1::Layer::kDropout:
      return ApplyDropout(layer.spec.dropout().rate(), step, count, t.input,
                          t.output);
    case v1::Layer::kResidual:
      for (size_t i = 0; i < count; ++i) t.output[i] = t.input[i] + t.other[i];
      return;
    case v1::Layer::kFlatten:
    case v1::Layer::KIND_NOT_SET:  // ModelGraph lets none through
      std::copy_n(t.input, count, t.output);
      return;
  }
}

void BackwardLayer(const ModelGraph::Layer& layer, const StepState& step,
                   const LayerTensors& t) {
  const size_t inputs = ElementCount(layer.input_shape);
  const size_t count = t.batch * inputs;
  switch (layer.spec.kind_case()) {
    case v1::Layer::kDense:
    case v1::Layer::kUnembedding:
      return BackwardDense(count / layer.input_shape.back(),
                           layer.input_shape.back(), layer.output_shape.back(),
                           t);
    case v1::Layer::kConv2D:
      return BackwardConv2d(layer, t);
    case v1::Layer::kMaxPool:
    case v1::Layer::kAveragePool:
      return BackwardPool(layer, t);
    case v1::Layer::kGroupNorm:
    case v1::Layer::kLayerNorm:
      return BackwardNorm(layer, t);
    case v1::Layer::kBatchNorm:
      return BackwardBatchNorm(layer, t);
    case v1::Layer::kEmbedding:
      return BackwardEmbedding(layer, t);
    case v1::Layer::kCausalAttention:
      return BackwardAttention(layer, t);
    case v1::Layer::kSqueezeExcite:
      return BackwardSqueezeExcite(layer, t);
    case v1::Layer::kGlobalAveragePool:
      return BackwardGlobalPool(layer, t);
    case v1::Layer::kActivation:
      for (size_t i = 0; i < count; ++i) {
        t.input_gradient[i] =
            t.output_gradient[i] *
            ActivationSlope(layer.spec.activation(), t.input[i]);
      }
      return;
    case v1::Layer::kDropout:
      return ApplyDropout(layer.spec.dropout().rate(), step, count,
                          t.output_gradient, t.input_gradient);
    case v1::Layer::kResidual:
    case v1::Layer::kFlatten:
    case v1::Layer::KIND_NOT_SET:
      std::copy_n(t.output_gradient, count, t.input_gradient);
      return;
  }
}

}  // namespace koinon::kernels::reference
