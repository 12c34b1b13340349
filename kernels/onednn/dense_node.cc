#include "kernels/onednn/layer_node.h"

namespace koinon::kernels::onednn {
namespace {

using dnnl::memory;
using PrimitiveDesc = dnnl::inner_product_forward::primitive_desc;

// All formats are plain: weights are too large to be reordered at each step
// for what a blocked format gains.
class DenseNode final : public LayerNode {
 public:
  DenseNode(const ModelGraph::Layer& layer, FusedActivation fused)
      : layer_(layer), fused_(fused) {}

  memory Forward(const memory& input, Builder* builder) override {
    input_desc_ = PlainDesc(builder->batch(), layer_.input_shape);
    output_desc_ = PlainDesc(builder->batch(), layer_.output_shape);
    weight_desc_ = memory::desc({layer_.output_shape[0], layer_.input_shape[0]},
                                memory::data_type::f32, memory::format_tag::oi);
    if (layer_.bias >= 0) {
      bias_desc_ = memory::desc({layer_.output_shape[0]},
                                memory::data_type::f32, memory::format_tag::x);
    }
    input_ = builder->InFormat(input, input_desc_, &builder->forward());
    output_ = builder->NewMemory(output_desc_);
    hint_ = PrimitiveDesc({builder->forward_kind(), input_desc_, weight_desc_,
                           bias_desc_, output_desc_},
                          fused_.Attributes(*builder), builder->engine());
    PrimitiveOperation::Arguments arguments = {
        {DNNL_ARG_SRC, input_},
        {DNNL_ARG_WEIGHTS, builder->Parameter(layer_.weight, weight_desc_)},
        {DNNL_ARG_DST, output_}};
    if (layer_.bias >= 0) {
      arguments.emplace_back(DNNL_ARG_BIAS,
                             builder->Parameter(layer_.bias, bias_desc_));
    }
    builder->Add<dnnl::inner_product_forward>(
        layer_.name, hint_, std::move(arguments), &builder->forward());
    return output_;
  }

  memory Backward(const memory& output_gradient, bool wants_input_gradient,
                  Builder* builder) override {
    const memory gradient =
        builder->InFormat(output_gradient, output_desc_, &builder->backward());
    if (fused_) fused_.AddBackward(layer_.name, output_, gradient, builder);
    AddWeightGradient(gradient, builder);
    return wants_input_gradient ? AddInputGradient(gradient, builder)
                                : memory();
  }

 private:
  void AddWeightGradient(const memory& gradient, Builder* builder) {
    const dnnl::inner_product_backward_weights::primitive_desc description(
        {input_desc_, weight_desc_, bias_desc_, output_desc_},
        builder->attributes(), builder->engine(), hint_);
    PrimitiveOperation::Arguments arguments = {
        {DNNL_ARG_SRC, input_},
        {DNNL_ARG_DIFF_DST, gradient},
        {DNNL_ARG_DIFF_WEIGHTS,
         builder->Gradient(layer_.weight, weight_desc_)}};
    if (layer_.bias >= 0) {
      arguments.emplace_back(DNNL_ARG_DIFF_BIAS,
                             builder->Gradient(layer_.bias, bias_desc_));
    }
    builder->Add<dnnl::inner_product_backward_weights>(
        layer_.name, description, std::move(arguments), &builder->backward());
  }

  memory AddInputGradient(const memory& gradient, Builder* builder) {
    const dnnl::inner_product_backward_data::primitive_desc description(
        {input_desc_, weight_desc_, output_desc_}, builder->attributes(),
        builder->engine(), hint_);
    memory input_gradient = builder->NewMemory(input_desc_);
    builder->Add<dnnl::inner_product_backward_data>(
        layer_.name, description,
        {{DNNL_ARG_DIFF_DST, gradient},
         {DNNL_ARG_WEIGHTS, builder->Parameter(layer_.weight, weight_desc_)},
         {DNNL_ARG_DIFF_SRC, input_gradient}},
        &builder->backward());
    return input_gradient;
  }

  const ModelGraph::Layer& layer_;
  const FusedActivation fused_;
  memory::desc input_desc_, output_desc_, weight_desc_, bias_desc_;
  PrimitiveDesc hint_;
  memory input_, output_;
};

}  // namespace

std::unique_ptr<LayerNode> NewDenseNode(const ModelGraph::Layer& layer,
                                        FusedActivation fused) {
  return std::make_unique<DenseNode>(layer, fused);
}

}  // namespace koinon::kernels::onednn
