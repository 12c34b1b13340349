#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/onednn/layer_node.h"
#include "kernels/onednn/openmp.h"

namespace koinon::kernels::onednn {
namespace {

using dnnl::memory;

// norm(w * x + b) = (w f) * x + ((b - mean) f + shift), f = scale / deviation.
struct Folding {
  size_t channels = 0;
  size_t window = 0;  // weights of a channel
  float epsilon = 0;
  const float* weight = nullptr;
  const float* bias = nullptr;  // null: none
  const float* scale = nullptr;
  const float* shift = nullptr;
  const float* mean = nullptr;
  const float* variance = nullptr;

  void Apply(int threads, float* folded_weight, float* folded_bias) const {
    ParallelFor(threads, channels, [&](size_t begin, size_t end) {
      for (size_t c = begin; c < end; ++c) {
        // A running variance that came from outside may be anything.
        const double positive = std::max(0.0f, variance[c]);
        const float factor =
            static_cast<float>(scale[c] / std::sqrt(positive + epsilon));
        const float* from = weight + c * window;
        float* to = folded_weight + c * window;
        for (size_t i = 0; i < window; ++i) to[i] = from[i] * factor;
        const float own = bias == nullptr ? 0 : bias[c];
        folded_bias[c] = (own - mean[c]) * factor + shift[c];
      }
    });
  }
};

class FoldedConvolutionNode final : public LayerNode {
 public:
  FoldedConvolutionNode(const ModelGraph::Layer& convolution,
                        const ModelGraph::Layer& norm, FusedActivation fused)
      : convolution_(convolution),
        norm_(norm),
        folded_(Folded(convolution, norm)),
        node_(NewConv2dNode(folded_, fused)) {}

  memory Forward(const memory& input, Builder* builder) override {
    const Folding folding = Describe(*builder);
    memory weight = builder->NewMemory(
        PlainDesc({static_cast<int64_t>(folding.channels * folding.window)}));
    memory bias =
        builder->NewMemory(PlainDesc({static_cast<int64_t>(folding.channels)}));
    builder->packing().AddKernel(
        [folding, weight, bias](const StepContext& context) {
          folding.Apply(context.threads, Data(weight), Data(bias));
        });
    builder->Substitute(folded_.weight, weight);
    builder->Substitute(folded_.bias, bias);
    return node_->Forward(input, builder);
  }

  // Never called: such networks do not train.
  memory Backward(const memory& output_gradient, bool wants_input_gradient,
                  Builder* builder) override {
    return node_->Backward(output_gradient, wants_input_gradient, builder);
  }

 private:
  // The convolution with a bias, which takes the place of the norm's shift.
  static ModelGraph::Layer Folded(const ModelGraph::Layer& convolution,
                                  const ModelGraph::Layer& norm) {
    ModelGraph::Layer folded = convolution;
    folded.spec.mutable_conv2d()->set_no_bias(false);
    folded.bias = norm.bias;
    return folded;
  }

  Folding Describe(const Builder& builder) const {
    Folding folding;
    folding.channels = static_cast<size_t>(convolution_.output_shape[0]);
    const v1::Layer::Conv2d& conv = convolution_.spec.conv2d();
    folding.window =
        static_cast<size_t>(convolution_.input_shape[0] / conv.groups() *
                            conv.kernel() * conv.kernel());
    folding.epsilon = static_cast<float>(norm_.spec.batch_norm().epsilon());
    folding.weight = builder.ParameterData(convolution_.weight);
    if (convolution_.bias >= 0) {
      folding.bias = builder.ParameterData(convolution_.bias);
    }
    folding.scale = builder.ParameterData(norm_.weight);
    folding.shift = builder.ParameterData(norm_.bias);
    folding.mean = builder.ParameterData(norm_.weight2);
    folding.variance = builder.ParameterData(norm_.bias2);
    return folding;
  }

  const ModelGraph::Layer& convolution_;
  const ModelGraph::Layer& norm_;
  const ModelGraph::Layer folded_;
  const std::unique_ptr<LayerNode> node_;
};

}  // namespace

std::unique_ptr<LayerNode> NewFoldedConvolutionNode(
    const ModelGraph::Layer& convolution, const ModelGraph::Layer& norm,
    FusedActivation fused) {
  return std::make_unique<FoldedConvolutionNode>(convolution, norm, fused);
}

}  // namespace koinon::kernels::onednn
