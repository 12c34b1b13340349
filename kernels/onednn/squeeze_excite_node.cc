#include <algorithm>
#include <string>

#include "kernels/onednn/channel_format.h"
#include "kernels/onednn/channel_kernel.h"
#include "kernels/onednn/layer_node.h"

namespace koinon::kernels::onednn {
namespace {

using dnnl::memory;

// The two dense layers are nodes of their own, within this one.
class SqueezeExciteNode final : public LayerNode {
 public:
  explicit SqueezeExciteNode(const ModelGraph::Layer& layer)
      : layer_(layer),
        squeeze_layer_(DenseLayer(layer.name + ".fc1", layer.input_shape[0],
                                  layer.spec.squeeze_excite().hidden(),
                                  layer.weight, layer.bias)),
        excite_layer_(DenseLayer(
            layer.name + ".fc2", layer.spec.squeeze_excite().hidden(),
            layer.input_shape[0], layer.weight2, layer.bias2)),
        squeeze_(NewDenseNode(squeeze_layer_, {v1::Layer::RELU})),
        excite_(NewDenseNode(excite_layer_, {})),
        channels_(static_cast<size_t>(layer.input_shape[0])) {}

  memory Forward(const memory& input, Builder* builder) override {
    Program* program = &builder->forward();
    format_ =
        ChannelFormat(input.get_desc(), builder->batch(), layer_.input_shape);
    input_ = builder->InFormat(input, format_.desc, program);
    const size_t values = format_.shape.batch * format_.shape.padded();
    sums_ = NewDoubles(values, builder);
    products_ = NewDoubles(values, builder);
    gate_ = NewFloats(values, builder);
    rows_ = PlainDesc({builder->batch(), layer_.input_shape[0]});
    memory means = builder->NewMemory(rows_);
    program->AddKernel([shape = format_.shape, channels = channels_,
                        input = input_, means, sums = sums_,
                        squares = products_](const StepContext& context) {
      SumChannels(shape, context.threads, shape.batch, Data(input),
                  Doubles(sums), Doubles(squares));
      MeansOf(shape, channels, Doubles(sums), Data(means));
    });
    excited_ = builder->InFormat(
        excite_->Forward(squeeze_->Forward(means, builder), builder), rows_,
        program);
    memory output = builder->NewMemory(format_.desc);
    program->AddKernel([shape = format_.shape, channels = channels_,
                        input = input_, excited = excited_, gate = gate_,
                        output](const StepContext& context) {
      for (size_t b = 0; b < shape.batch; ++b) {
        for (size_t c = 0; c < channels; ++c) {
          const float value = Data(excited)[b * channels + c];
          Data(gate)[b * shape.padded() + c] =
              std::clamp(value + 3, 0.0f, 6.0f) / 6;
        }
      }
      GateChannels(shape, context.threads, Data(input), Data(gate), nullptr,
                   Data(output));
    });
    return output;
  }

  // dgate = sum(dy * x); dx = dy * gate + dmean / S.
  memory Backward(const memory& output_gradient, bool wants_input_gradient,
                  Builder* builder) override {
    Program* program = &builder->backward();
    const memory gradient =
        builder->InFormat(output_gradient, format_.desc, program);
    memory excited_gradient = builder->NewMemory(rows_);
    program->AddKernel([shape = format_.shape, channels = channels_,
                        input = input_, gradient, excited = excited_,
                        sums = sums_, products = products_,
                        excited_gradient](const StepContext& context) {
      SumProducts(shape, context.threads, shape.batch, Data(input), nullptr,
                  Data(gradient), Doubles(sums), Doubles(products));
      for (size_t b = 0; b < shape.batch; ++b) {
        for (size_t c = 0; c < channels; ++c) {
          const float value = Data(excited)[b * channels + c];
          const double product = Doubles(products)[b * shape.padded() + c];
          Data(excited_gradient)[b * channels + c] =
              value > -3 && value < 3 ? static_cast<float>(product / 6) : 0;
        }
      }
    });
    const memory hidden_gradient =
        excite_->Backward(excited_gradient, true, builder);
    memory mean_gradient =
        squeeze_->Backward(hidden_gradient, wants_input_gradient, builder);
    if (!wants_input_gradient) return memory();
    mean_gradient = builder->InFormat(mean_gradient, rows_, program);
    const size_t values = format_.shape.batch * format_.shape.padded();
    program->AddKernel(
        [shape = format_.shape, channels = channels_, gradient, gate = gate_,
         mean_gradient,
         share = NewFloats(values, builder)](const StepContext& context) {
          for (size_t b = 0; b < shape.batch; ++b) {
            for (size_t c = 0; c < channels; ++c) {
              Data(share)[b * shape.padded() + c] =
                  Data(mean_gradient)[b * channels + c] /
                  static_cast<float>(shape.spatial);
            }
          }
          GateChannels(shape, context.threads, Data(gradient), Data(gate),
                       Data(share), Data(gradient));
        });
    return gradient;
  }

 private:
  static ModelGraph::Layer DenseLayer(const std::string& name, int64_t in,
                                      int64_t out, int weight, int bias) {
    ModelGraph::Layer layer;
    layer.spec.mutable_dense()->set_units(out);
    layer.name = name;
    layer.input_shape = {in};
    layer.output_shape = {out};
    layer.weight = weight;
    layer.bias = bias;
    return layer;
  }

  const ModelGraph::Layer& layer_;
  const ModelGraph::Layer squeeze_layer_, excite_layer_;
  const std::unique_ptr<LayerNode> squeeze_, excite_;
  const size_t channels_;
  ChannelFormat format_;
  memory::desc rows_;  // [B, C]
  memory input_, excited_;
  memory gate_;             // [B, padded]
  memory sums_, products_;  // doubles: [B, padded]
};

}  // namespace

std::unique_ptr<LayerNode> NewSqueezeExciteNode(
    const ModelGraph::Layer& layer) {
  return std::make_unique<SqueezeExciteNode>(layer);
}

}  // namespace koinon::kernels::onednn
