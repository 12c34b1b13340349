#include "kernels/onednn/layer_node.h"

namespace koinon::kernels::onednn {
namespace {

using dnnl::memory;
using PrimitiveDesc = dnnl::inner_product_forward::primitive_desc;

// Of a flat example, or of each position of a sequence: rows of features.
//
// All formats are plain: weights are too large to be reordered at each step for
// what a blocked format gains (measured, the conversion to bfloat16 included:
// into a blocked format it takes three times as long). Of bfloat16 products the
// results stay in float32 unless an activation follows, and with it, most
// likely, the next product.
class DenseNode final : public LayerNode {
 public:
  DenseNode(const ModelGraph::Layer& layer, FusedActivation fused)
      : layer_(layer), fused_(fused) {}

  bool OverwritesOutputGradient() const override {
    return static_cast<bool>(fused_);
  }

  memory Forward(const memory& input, Builder* builder) override {
    Describe(input, *builder);
    Program* program = &builder->forward();
    input_ = builder->ForProduct(
        builder->Reshape(
            builder->InFormat(input,
                              PlainDesc(builder->batch(), layer_.input_shape,
                                        input_desc_.data_type()),
                              program),
            input_desc_),
        program);
    output_ = builder->NewMemory(output_desc_);
    hint_ = PrimitiveDesc({builder->forward_kind(), input_desc_, weight_desc_,
                           bias_desc_, output_desc_},
                          fused_.Attributes(*builder), builder->engine());
    weight_ = builder->ForProduct(
        builder->InFormat(builder->Parameter(layer_.weight, flat_desc_),
                          weight_desc_, &builder->packing()),
        &builder->packing());
    PrimitiveOperation::Arguments arguments = {{DNNL_ARG_SRC, input_},
                                               {DNNL_ARG_WEIGHTS, weight_},
                                               {DNNL_ARG_DST, output_}};
    if (layer_.bias >= 0) {
      arguments.emplace_back(DNNL_ARG_BIAS,
                             builder->Parameter(layer_.bias, bias_desc_));
    }
    builder->Add<dnnl::inner_product_forward>(layer_.name, hint_,
                                              std::move(arguments), program);
    return View(output_, PlainDesc(builder->batch(), layer_.output_shape,
                                   output_desc_.data_type()));
  }

  memory Backward(const memory& output_gradient, bool wants_input_gradient,
                  Builder* builder) override {
    Program* program = &builder->backward();
    // A slope is taken in the type that the result has.
    memory gradient =
        View(builder->InFormat(output_gradient,
                               PlainDesc(builder->batch(), layer_.output_shape,
                                         fused_ ? output_desc_.data_type()
                                                : builder->product_type()),
                               program),
             gradient_desc_);
    if (fused_) fused_.AddBackward(layer_.name, output_, gradient, builder);
    gradient = builder->ForProduct(gradient, program);
    AddWeightGradient(gradient, builder);
    return wants_input_gradient ? AddInputGradient(gradient, builder)
                                : memory();
  }

 private:
  void Describe(const memory& input, const Builder& builder) {
    const memory::data_type type = builder.product_type();
    const int64_t in = layer_.input_shape.back();
    const int64_t out = layer_.output_shape.back();
    int64_t rows = builder.batch();
    if (layer_.input_shape.size() == 2) rows *= layer_.input_shape[0];
    input_type_ = input.get_desc().data_type();
    input_desc_ = PlainDesc({rows, in}, type);
    output_desc_ =
        PlainDesc({rows, out}, fused_ ? type : memory::data_type::f32);
    gradient_desc_ = PlainDesc({rows, out}, type);
    weight_desc_ = PlainDesc({out, in}, type);
    flat_desc_ = PlainDesc({out, in});
    if (layer_.bias >= 0) bias_desc_ = PlainDesc({out});
  }

  void AddWeightGradient(const memory& gradient, Builder* builder) {
    const dnnl::inner_product_backward_weights::primitive_desc description(
        {input_desc_, flat_desc_, bias_desc_, gradient_desc_},
        builder->attributes(), builder->engine(), hint_);
    PrimitiveOperation::Arguments arguments = {
        {DNNL_ARG_SRC, input_},
        {DNNL_ARG_DIFF_DST, gradient},
        {DNNL_ARG_DIFF_WEIGHTS, builder->Gradient(layer_.weight, flat_desc_)}};
    if (layer_.bias >= 0) {
      arguments.emplace_back(DNNL_ARG_DIFF_BIAS,
                             builder->Gradient(layer_.bias, bias_desc_));
    }
    builder->Add<dnnl::inner_product_backward_weights>(
        layer_.name, description, std::move(arguments), &builder->backward());
  }

  // In the type that the input came in.
  memory AddInputGradient(const memory& gradient, Builder* builder) {
    const memory::desc desc = PlainDesc(input_desc_.dims(), input_type_);
    const dnnl::inner_product_backward_data::primitive_desc description(
        {desc, weight_desc_, gradient_desc_}, builder->attributes(),
        builder->engine(), hint_);
    memory input_gradient = builder->NewMemory(desc);
    builder->Add<dnnl::inner_product_backward_data>(
        layer_.name, description,
        {{DNNL_ARG_DIFF_DST, gradient},
         {DNNL_ARG_WEIGHTS, weight_},
         {DNNL_ARG_DIFF_SRC, input_gradient}},
        &builder->backward());
    return View(input_gradient,
                PlainDesc(builder->batch(), layer_.input_shape, input_type_));
  }

  const ModelGraph::Layer& layer_;
  const FusedActivation fused_;
  memory::data_type input_type_ = memory::data_type::f32;
  memory::desc input_desc_, output_desc_, gradient_desc_;  // [rows, features]
  memory::desc weight_desc_, bias_desc_;
  memory::desc flat_desc_;  // the weights in the flat model
  PrimitiveDesc hint_;
  memory input_, weight_, output_;
};

}  // namespace

std::unique_ptr<LayerNode> NewDenseNode(const ModelGraph::Layer& layer,
                                        FusedActivation fused) {
  return std::make_unique<DenseNode>(layer, fused);
}

}  // namespace koinon::kernels::onednn
