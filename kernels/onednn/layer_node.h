#ifndef KOINON_KERNELS_ONEDNN_LAYER_NODE_H_
#define KOINON_KERNELS_ONEDNN_LAYER_NODE_H_

#include <dnnl.hpp>
#include <memory>

#include "kernels/graph/model_graph.h"
#include "kernels/onednn/builder.h"

namespace koinon::kernels::onednn {

// The gradient of a layer's output, with what the layer may do to it.
struct OutputGradient {
  dnnl::memory first;
  // To be added to `first`; of its type and format, and to be overwritten at
  // will. Empty: nothing.
  dnnl::memory second;
  bool may_overwrite_first = false;
};

// One layer while a network is compiled: it adds its operations to the forward
// program, then, in reverse order of the layers, to the backward program.
class LayerNode {
 public:
  virtual ~LayerNode() = default;

  // Adds what turns `input` into the returned output.
  virtual dnnl::memory Forward(const dnnl::memory& input, Builder* builder) = 0;
  // For a layer that can add two values up on its way: as Forward, of
  // input + other, which goes to `sum`. Empty, and nothing is added to the
  // program, if it cannot.
  virtual dnnl::memory ForwardSum(const dnnl::memory& /*input*/,
                                  const dnnl::memory& /*other*/,
                                  dnnl::memory* /*sum*/, Builder* /*builder*/) {
    return dnnl::memory();
  }
  // For a layer that can add another value to its result while it makes it: as
  // Forward, of layer(input) + other, with the activation that it was made with
  // applied to that. Empty, and nothing is added to the program, if it cannot.
  virtual dnnl::memory ForwardPlus(const dnnl::memory& /*input*/,
                                   const dnnl::memory& /*other*/,
                                   Builder* /*builder*/) {
    return dnnl::memory();
  }
  // Adds what turns the output's gradient (which it may overwrite) into the
  // parameters' gradients and the returned input's gradient; returns empty
  // memory if that is not wanted. Called after Forward.
  virtual dnnl::memory Backward(const dnnl::memory& output_gradient,
                                bool wants_input_gradient,
                                Builder* builder) = 0;
  // For a layer that can add its output's gradient up on its way, or that added
  // another value to its result. True: the compiler calls BackwardParts in the
  // place of Backward, which puts the gradient of what was added to the result
  // into `other` if that is not null. It may be memory of `gradient`.
  virtual bool TakesGradientInParts() const { return false; }
  virtual dnnl::memory BackwardParts(const OutputGradient& gradient,
                                     bool wants_input_gradient,
                                     dnnl::memory* /*other*/,
                                     Builder* builder) {
    return Backward(gradient.first, wants_input_gradient, builder);
  }
  // False if Backward leaves the output's gradient as it is; then it need not
  // be copied where others have a use for it.
  virtual bool OverwritesOutputGradient() const { return true; }
  // For a layer that can add to what other readers of its input have
  // contributed: as Backward, but adds the input's gradient to `sum`. False,
  // and nothing is added to the program, if it cannot.
  virtual bool BackwardAdding(const dnnl::memory& /*output_gradient*/,
                              const dnnl::memory& /*sum*/,
                              Builder* /*builder*/) {
    return false;
  }
};

// An activation that a dense or convolutional layer applies to its own output,
// while it is still in the cache. Its slope must follow from its result.
struct FusedActivation {
  v1::Layer::Activation kind = v1::Layer::ACTIVATION_UNSPECIFIED;  // none

  explicit operator bool() const {
    return kind != v1::Layer::ACTIVATION_UNSPECIFIED;
  }
  static bool CanFuse(const v1::Layer& layer);
  // In a network that does not train no slope is needed.
  static bool CanFuseForward(const v1::Layer& layer);
  // The attributes of a forward primitive that applies it.
  dnnl::primitive_attr Attributes(const Builder& builder) const;
  // Adds value = activation(value), in place.
  void AddForward(const std::string& name, const dnnl::memory& value,
                  Builder* builder) const;
  // Adds gradient *= slope, in place; `output` is the layer's result. Both in
  // `output`'s format.
  void AddBackward(const std::string& name, const dnnl::memory& output,
                   const dnnl::memory& gradient, Builder* builder) const;
};

// What a layer rounds to bfloat16 while it puts it out, because only products
// that want it so read it (Builder::rounds). It may leave that to the products.
struct RoundedResults {
  bool output = false;
  bool input_gradient = false;
};

// `layer` must outlive the node; `place` is its index in the graph.
std::unique_ptr<LayerNode> NewDenseNode(const ModelGraph::Layer& layer,
                                        FusedActivation fused);
std::unique_ptr<LayerNode> NewConv2dNode(const ModelGraph::Layer& layer,
                                         FusedActivation fused);
// A convolution with the batch norm behind it, which is a factor and an offset
// for each channel where nothing is trained. `fused` comes after the norm.
std::unique_ptr<LayerNode> NewFoldedConvolutionNode(
    const ModelGraph::Layer& convolution, const ModelGraph::Layer& norm,
    FusedActivation fused);
std::unique_ptr<LayerNode> NewPoolNode(const ModelGraph::Layer& layer,
                                       RoundedResults rounded);
std::unique_ptr<LayerNode> NewActivationNode(const ModelGraph::Layer& layer);
std::unique_ptr<LayerNode> NewDropoutNode(const ModelGraph::Layer& layer,
                                          size_t place);
std::unique_ptr<LayerNode> NewNormNode(const ModelGraph::Layer& layer);
std::unique_ptr<LayerNode> NewGroupNormNode(const ModelGraph::Layer& layer,
                                            FusedActivation fused,
                                            RoundedResults rounded);
std::unique_ptr<LayerNode> NewFlattenNode(const ModelGraph::Layer& layer);
std::unique_ptr<LayerNode> NewBatchNormNode(const ModelGraph::Layer& layer);
// `adds`: the weight's gradient has the unembedding's part in it already.
std::unique_ptr<LayerNode> NewEmbeddingNode(const ModelGraph::Layer& layer,
                                            bool adds);
// A layer norm of each position.
std::unique_ptr<LayerNode> NewSequenceNormNode(const ModelGraph::Layer& layer);
std::unique_ptr<LayerNode> NewAttentionNode(const ModelGraph::Layer& layer);
std::unique_ptr<LayerNode> NewGlobalPoolNode(const ModelGraph::Layer& layer);
std::unique_ptr<LayerNode> NewSqueezeExciteNode(const ModelGraph::Layer& layer);

}  // namespace koinon::kernels::onednn

#endif  // KOINON_KERNELS_ONEDNN_LAYER_NODE_H_
