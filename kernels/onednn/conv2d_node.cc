#include "kernels/onednn/layer_node.h"

namespace koinon::kernels::onednn {
namespace {

using dnnl::memory;
using PrimitiveDesc = dnnl::convolution_forward::primitive_desc;

// oneDNN chooses the formats of images and kernels: convolutions are many times
// faster in its own, and the kernels are small enough to be reordered at each
// step.
class Conv2dNode final : public LayerNode {
 public:
  Conv2dNode(const ModelGraph::Layer& layer, FusedActivation fused)
      : layer_(layer), spec_(layer.spec.conv2d()), fused_(fused) {}

  bool OverwritesOutputGradient() const override {
    return static_cast<bool>(fused_);
  }

  memory Forward(const memory& input, Builder* builder) override {
    Describe(*builder);
    hint_ = PrimitiveDesc(
        {builder->forward_kind(), dnnl::algorithm::convolution_direct,
         AnyFormat(input_desc_), AnyFormat(weight_desc_), bias_desc_,
         AnyFormat(output_desc_), strides_, padding_, padding_},
        fused_.Attributes(*builder), builder->engine());
    Program* program = &builder->forward();
    input_ = builder->ForProduct(
        builder->InFormat(input, hint_.src_desc(), program), program);
    weight_ = WeightIn(hint_.weights_desc(), builder, &builder->packing());
    output_ = builder->NewMemory(hint_.dst_desc());
    if (fused_.kind == v1::Layer::RELU) builder->MarkRectified(output_);
    PrimitiveOperation::Arguments arguments = {{DNNL_ARG_SRC, input_},
                                               {DNNL_ARG_WEIGHTS, weight_},
                                               {DNNL_ARG_DST, output_}};
    if (layer_.bias >= 0) {
      arguments.emplace_back(DNNL_ARG_BIAS,
                             builder->Parameter(layer_.bias, bias_desc_));
    }
    builder->Add<dnnl::convolution_forward>(layer_.name, hint_,
                                            std::move(arguments), program);
    return output_;
  }

  memory Backward(const memory& output_gradient, bool wants_input_gradient,
                  Builder* builder) override {
    memory gradient = output_gradient;
    if (fused_ && !builder->IsMasked(output_gradient)) {
      gradient =
          builder->InFormat(gradient, output_.get_desc(), &builder->backward());
      fused_.AddBackward(layer_.name, output_, gradient, builder);
      builder->Unmark(gradient);
    }
    gradient = builder->ForProduct(gradient, &builder->backward());
    AddWeightGradient(gradient, builder);
    return wants_input_gradient ? AddInputGradient(gradient, builder)
                                : memory();
  }

 private:
  void Describe(const Builder& builder) {
    const memory::data_type type = builder.product_type();
    const int64_t groups = spec_.groups();
    const int64_t in = layer_.input_shape[0], out = layer_.output_shape[0];
    const int64_t kernel = spec_.kernel();
    input_desc_ = PlainDesc(builder.batch(), layer_.input_shape, type);
    output_desc_ = PlainDesc(builder.batch(), layer_.output_shape, type);
    // [groups, out / groups, ...] and [out, ...] are the same bytes.
    const memory::dims weight_dims =
        groups == 1
            ? memory::dims{out, in, kernel, kernel}
            : memory::dims{groups, out / groups, in / groups, kernel, kernel};
    weight_desc_ = PlainDesc(weight_dims, type);
    flat_desc_ = PlainDesc(weight_dims);
    if (layer_.bias >= 0) {
      bias_desc_ =
          memory::desc({out}, memory::data_type::f32, memory::format_tag::x);
    }
    strides_ = {spec_.stride(), spec_.stride()};
    padding_ = {spec_.padding(), spec_.padding()};
  }

  memory WeightIn(const memory::desc& desc, Builder* builder,
                  Program* program) const {
    return builder->ForProduct(
        builder->InFormat(builder->Parameter(layer_.weight, flat_desc_), desc,
                          program),
        program);
  }

  void AddWeightGradient(const memory& gradient, Builder* builder) {
    const dnnl::convolution_backward_weights::primitive_desc description(
        {dnnl::algorithm::convolution_direct, AnyFormat(input_desc_),
         AnyFormat(flat_desc_), bias_desc_, AnyFormat(output_desc_), strides_,
         padding_, padding_},
        builder->attributes(), builder->engine(), hint_);
    Program* program = &builder->backward();
    const memory flat = builder->Gradient(layer_.weight, flat_desc_);
    const bool is_plain = description.diff_weights_desc() == flat_desc_;
    const memory blocked =
        is_plain ? flat : builder->NewMemory(description.diff_weights_desc());
    PrimitiveOperation::Arguments arguments = {
        {DNNL_ARG_SRC,
         builder->InFormat(input_, description.src_desc(), program)},
        {DNNL_ARG_DIFF_DST,
         builder->InFormat(gradient, description.diff_dst_desc(), program)},
        {DNNL_ARG_DIFF_WEIGHTS, blocked}};
    if (layer_.bias >= 0) {
      arguments.emplace_back(DNNL_ARG_DIFF_BIAS,
                             builder->Gradient(layer_.bias, bias_desc_));
    }
    builder->Add<dnnl::convolution_backward_weights>(
        layer_.name, description, std::move(arguments), program);
    if (!is_plain) builder->AddReorder(blocked, flat, program);
  }

  memory AddInputGradient(const memory& gradient, Builder* builder) {
    const dnnl::convolution_backward_data::primitive_desc description(
        {dnnl::algorithm::convolution_direct, AnyFormat(input_desc_),
         AnyFormat(weight_desc_), AnyFormat(output_desc_), strides_, padding_,
         padding_},
        builder->attributes(), builder->engine(), hint_);
    Program* program = &builder->backward();
    memory input_gradient = builder->NewMemory(description.diff_src_desc());
    const memory weight =
        weight_.get_desc() == description.weights_desc()
            ? weight_
            : WeightIn(description.weights_desc(), builder, program);
    builder->Add<dnnl::convolution_backward_data>(
        layer_.name, description,
        {{DNNL_ARG_DIFF_DST,
          builder->InFormat(gradient, description.diff_dst_desc(), program)},
         {DNNL_ARG_WEIGHTS, weight},
         {DNNL_ARG_DIFF_SRC, input_gradient}},
        program);
    return input_gradient;
  }

  const ModelGraph::Layer& layer_;
  const v1::Layer::Conv2d& spec_;
  const FusedActivation fused_;
  memory::desc input_desc_, output_desc_, weight_desc_, bias_desc_;
  memory::desc flat_desc_;  // the weights in the flat model
  memory::dims strides_, padding_;
  PrimitiveDesc hint_;
  memory input_, weight_, output_;
};

}  // namespace

std::unique_ptr<LayerNode> NewConv2dNode(const ModelGraph::Layer& layer,
                                         FusedActivation fused) {
  return std::make_unique<Conv2dNode>(layer, fused);
}

}  // namespace koinon::kernels::onednn
