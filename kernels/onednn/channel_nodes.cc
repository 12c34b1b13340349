// Batch norm and global average pooling, on our own sums over channels.

#include <algorithm>
#include <cmath>

#include "kernels/onednn/channel_format.h"
#include "kernels/onednn/channel_kernel.h"
#include "kernels/onednn/layer_node.h"

namespace koinon::kernels::onednn {
namespace {

using dnnl::memory;

// Sums over examples of [examples, padded], in their order.
double SumExamples(const double* sums, size_t examples, size_t padded,
                   size_t c) {
  double sum = 0;
  for (size_t b = 0; b < examples; ++b) sum += sums[b * padded + c];
  return sum;
}

// What a batch norm's kernels read and write. Arrays of [padded].
struct BatchNormState {
  ChannelFormat format;
  size_t channels = 0;
  float epsilon = 0;
  double momentum = 0;
  float* scale = nullptr;  // the flat model's
  float* shift = nullptr;
  float* running_mean = nullptr;
  float* running_variance = nullptr;
  memory input;
  memory mean, inverse;  // of the latest step
  memory factor, slope, offset;
  memory sums, squares;  // doubles: [B, padded]
};

void TakeBatchMoments(const BatchNormState& state, const StepContext& context) {
  const ChannelShape& shape = state.format.shape;
  SumChannels(shape, context.threads, context.examples, Data(state.input),
              Doubles(state.sums), Doubles(state.squares));
  const double count = static_cast<double>(context.examples) * shape.spatial;
  for (size_t c = 0; c < state.channels; ++c) {
    const double mean =
        SumExamples(Doubles(state.sums), context.examples, shape.padded(), c) /
        count;
    // In double, squares of single precision lose nothing that would be seen.
    const double variance =
        std::max(0.0, SumExamples(Doubles(state.squares), context.examples,
                                  shape.padded(), c) /
                              count -
                          mean * mean);
    Data(state.mean)[c] = static_cast<float>(mean);
    Data(state.inverse)[c] =
        static_cast<float>(1 / std::sqrt(variance + state.epsilon));
    const double unbiased = variance * (count > 1 ? count / (count - 1) : 1);
    state.running_mean[c] +=
        static_cast<float>(state.momentum * (mean - state.running_mean[c]));
    state.running_variance[c] += static_cast<float>(
        state.momentum * (unbiased - state.running_variance[c]));
  }
}

void TakeRunningMoments(const BatchNormState& state) {
  for (size_t c = 0; c < state.channels; ++c) {
    Data(state.mean)[c] = state.running_mean[c];
    // A variance that came from outside may be anything.
    const double variance = std::max(0.0f, state.running_variance[c]);
    Data(state.inverse)[c] =
        static_cast<float>(1 / std::sqrt(variance + state.epsilon));
  }
}

class BatchNormNode final : public LayerNode {
 public:
  explicit BatchNormNode(const ModelGraph::Layer& layer) : layer_(layer) {}

  bool OverwritesOutputGradient() const override { return false; }

  memory Forward(const memory& input, Builder* builder) override {
    state_.format =
        ChannelFormat(input.get_desc(), builder->batch(), layer_.input_shape);
    Describe(builder);
    state_.input =
        builder->InFormat(input, state_.format.desc, &builder->forward());
    memory output = builder->NewMemory(state_.format.desc);
    builder->forward().AddKernel(
        [state = state_, output](const StepContext& context) {
          if (context.training) {
            TakeBatchMoments(state, context);
          } else {
            TakeRunningMoments(state);
          }
          for (size_t c = 0; c < state.channels; ++c) {
            Data(state.factor)[c] = Data(state.inverse)[c] * state.scale[c];
            Data(state.offset)[c] = state.shift[c];
          }
          ScaleChannels(state.format.shape, context.threads, Data(state.input),
                        Data(state.mean), Data(state.factor),
                        Data(state.offset), Data(output));
        });
    return output;
  }

  memory Backward(const memory& output_gradient, bool wants_input_gradient,
                  Builder* builder) override {
    const memory gradient = builder->InFormat(
        output_gradient, state_.format.desc, &builder->backward());
    memory input_gradient;
    if (wants_input_gradient) {
      input_gradient = builder->NewMemory(state_.format.desc);
    }
    builder->backward().AddKernel(
        [state = state_, gradient, input_gradient,
         scale_gradient = builder->GradientData(layer_.weight),
         shift_gradient = builder->GradientData(layer_.bias),
         mean_gradient = builder->GradientData(layer_.weight2),
         variance_gradient =
             builder->GradientData(layer_.bias2)](const StepContext& context) {
          // Whoever reads gradients may add to them; these are none.
          std::fill_n(mean_gradient, state.channels, 0.0f);
          std::fill_n(variance_gradient, state.channels, 0.0f);
          SumGradients(state, context, gradient, scale_gradient,
                       shift_gradient);
          if (!input_gradient) return;
          BackwardScaleChannels(
              state.format.shape, context.threads, Data(state.input),
              Data(state.mean), Data(gradient), Data(state.factor),
              Data(state.slope), Data(state.offset), Data(input_gradient));
          ZeroRest(state, context, input_gradient);
        });
    return input_gradient;
  }

 private:
  void Describe(Builder* builder) {
    const size_t padded = state_.format.shape.padded();
    const v1::Layer::BatchNorm& spec = layer_.spec.batch_norm();
    state_.channels = static_cast<size_t>(layer_.input_shape[0]);
    state_.epsilon = static_cast<float>(spec.epsilon());
    state_.momentum = spec.momentum();
    state_.scale = builder->ParameterData(layer_.weight);
    state_.shift = builder->ParameterData(layer_.bias);
    state_.running_mean = builder->ParameterData(layer_.weight2);
    state_.running_variance = builder->ParameterData(layer_.bias2);
    for (memory* values : {&state_.mean, &state_.inverse, &state_.factor,
                           &state_.slope, &state_.offset}) {
      *values = NewFloats(padded, builder);
    }
    if (!builder->training()) return;
    const size_t count = state_.format.shape.batch * padded;
    state_.sums = NewDoubles(count, builder);
    state_.squares = NewDoubles(count, builder);
  }

  // dx = scale * inverse * (dy - mean(dy) - z * mean(dy * z)), z normalised x.
  static void SumGradients(const BatchNormState& state,
                           const StepContext& context, const memory& gradient,
                           float* scale_gradient, float* shift_gradient) {
    const ChannelShape& shape = state.format.shape;
    SumProducts(shape, context.threads, context.examples, Data(state.input),
                Data(state.mean), Data(gradient), Doubles(state.sums),
                Doubles(state.squares));
    const double count = static_cast<double>(context.examples) * shape.spatial;
    for (size_t c = 0; c < state.channels; ++c) {
      const double inverse = Data(state.inverse)[c];
      const double sum =
          SumExamples(Doubles(state.sums), context.examples, shape.padded(), c);
      const double product = SumExamples(Doubles(state.squares),
                                         context.examples, shape.padded(), c);
      scale_gradient[c] = static_cast<float>(product * inverse);
      shift_gradient[c] = static_cast<float>(sum);
      const double factor = state.scale[c] * inverse;
      Data(state.factor)[c] = static_cast<float>(factor);
      Data(state.slope)[c] =
          static_cast<float>(-factor * inverse * inverse * product / count);
      Data(state.offset)[c] = static_cast<float>(-factor * sum / count);
    }
  }

  // The examples that fill up a small batch had no part in the moments.
  static void ZeroRest(const BatchNormState& state, const StepContext& context,
                       const memory& gradient) {
    const ChannelShape& shape = state.format.shape;
    const size_t size = shape.padded() * shape.spatial;
    std::fill(Data(gradient) + context.examples * size,
              Data(gradient) + shape.batch * size, 0.0f);
  }

  const ModelGraph::Layer& layer_;
  BatchNormState state_;
};

class GlobalPoolNode final : public LayerNode {
 public:
  explicit GlobalPoolNode(const ModelGraph::Layer& layer) : layer_(layer) {}

  bool OverwritesOutputGradient() const override { return false; }

  memory Forward(const memory& input, Builder* builder) override {
    format_ =
        ChannelFormat(input.get_desc(), builder->batch(), layer_.input_shape);
    const memory image =
        builder->InFormat(input, format_.desc, &builder->forward());
    memory output =
        builder->NewMemory(PlainDesc(builder->batch(), layer_.output_shape));
    builder->forward().AddKernel(
        [shape = format_.shape, channels = layer_.output_shape[0], image,
         output, sums = NewDoubles(shape_values(), builder),
         squares =
             NewDoubles(shape_values(), builder)](const StepContext& context) {
          SumChannels(shape, context.threads, shape.batch, Data(image),
                      Doubles(sums), Doubles(squares));
          MeansOf(shape, static_cast<size_t>(channels), Doubles(sums),
                  Data(output));
        });
    return output;
  }

  memory Backward(const memory& output_gradient, bool wants_input_gradient,
                  Builder* builder) override {
    if (!wants_input_gradient) return memory();
    const memory gradient = builder->InFormat(
        output_gradient, PlainDesc(builder->batch(), layer_.output_shape),
        &builder->backward());
    memory input_gradient = builder->NewMemory(format_.desc);
    builder->backward().AddKernel(
        [shape = format_.shape,
         channels = static_cast<size_t>(layer_.output_shape[0]), gradient,
         input_gradient, share = NewFloats(shape_values(), builder)](
            const StepContext& context) {
          for (size_t b = 0; b < shape.batch; ++b) {
            for (size_t c = 0; c < channels; ++c) {
              Data(share)[b * shape.padded() + c] =
                  Data(gradient)[b * channels + c] /
                  static_cast<float>(shape.spatial);
            }
          }
          GateChannels(shape, context.threads, nullptr, nullptr, Data(share),
                       Data(input_gradient));
        });
    return input_gradient;
  }

 private:
  size_t shape_values() const {
    return format_.shape.batch * format_.shape.padded();
  }

  const ModelGraph::Layer& layer_;
  ChannelFormat format_;
};

}  // namespace

std::unique_ptr<LayerNode> NewBatchNormNode(const ModelGraph::Layer& layer) {
  return std::make_unique<BatchNormNode>(layer);
}

std::unique_ptr<LayerNode> NewGlobalPoolNode(const ModelGraph::Layer& layer) {
  return std::make_unique<GlobalPoolNode>(layer);
}

}  // namespace koinon::kernels::onednn
